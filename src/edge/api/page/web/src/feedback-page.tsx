// What people said of templates, and taking it back.
//
// What enters: ListFeedback. What leaves: a list; WithdrawFeedback, after a second press. Promised: after each withdrawal the list is the agent's
// again. Absent: giving feedback (it is given where one sees what it is about).
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "./agent";
import { textOr } from "./incidents";
import { feedbackGiven, settings } from "./live";
import type { Opinion } from "./model";
import { Time } from "./time";
import { read } from "./times";

export function FeedbackPage() {
  const opinions = useSignal<Opinion[] | undefined>(undefined);
  const trouble = useSignal("");
  const said = useSignal("");
  const given = feedbackGiven.value;
  const ask = async () => {
    try {
      opinions.value = await listAll();
      trouble.value = "";
    } catch (error) {
      trouble.value = error instanceof Error ? error.message : String(error);
    }
  };
  useEffect(() => void ask(), [given]);
  const withdraw = async (opinion: Opinion) => {
    const message: Record<string, string> = { template_key: opinion.template_key };
    if (opinion.tenant) message["tenant"] = opinion.tenant;
    if (opinion.service !== undefined) message["service"] = opinion.service;
    try {
      await call("WithdrawFeedback", message);
      said.value = `Taken back: ${textOr(opinion.text, opinion.template_key).slice(0, 120)}`;
      await ask();
    } catch (error) {
      trouble.value = error instanceof Error ? error.message : String(error);
    }
  };
  return (
    <section class="page-part" aria-labelledby="feedback-heading">
      <h1 id="feedback-heading">Feedback that was given</h1>
      <p class="muted">In force for every record from the moment it was given. It is given on the page of an incident.</p>
      <p role="status" class={said.value ? "notice good" : "visually-hidden"}>{said.value}</p>
      {trouble.value && <p role="alert" class="notice bad">{trouble.value}</p>}
      {!opinions.value && !trouble.value && <p class="muted">Asking the agent …</p>}
      {opinions.value?.length === 0 && <p class="empty">Nobody has said anything yet.</p>}
      {opinions.value && opinions.value.length > 0 && (
        <table class="plain" role="table" aria-label="Feedback">
          <thead role="rowgroup">
            <tr role="row">
              <th role="columnheader">Said</th>
              <th role="columnheader">Of</th>
              <th role="columnheader">By</th>
              <th role="columnheader">When</th>
              {settings.value.may_give_feedback && <th role="columnheader"><span class="visually-hidden">Withdraw</span></th>}
            </tr>
          </thead>
          <tbody role="rowgroup">
            {opinions.value.map((one) => (
              <Row key={`${one.tenant}/${one.template_key}/${one.service ?? ""}`} opinion={one} withdraw={() => void withdraw(one)} />
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

async function listAll(): Promise<Opinion[]> {
  const found: Opinion[] = [];
  let page_token = "";
  do {
    const page = await call<{ opinions: Opinion[]; next_page_token: string }>("ListFeedback", { page_size: 1000, page_token });
    found.push(...page.opinions);
    page_token = page.next_page_token;
  } while (page_token && found.length < 10_000);
  return found.sort((a, b) => (read(b.given_at) || 0) - (read(a.given_at) || 0));
}

function Row({ opinion, withdraw }: { opinion: Opinion; withdraw: () => void }) {
  const asked = useSignal(false);
  const until = read(opinion.mute_until);
  return (
    <tr role="row">
      <td role="cell" data-label="Said">
        {opinion.normal && <span class="badge opinion-normal">normal</span>}
        {opinion.real && <span class="badge opinion-real">real</span>}
        {opinion.mute_until && (
          <>
            <span class="badge opinion-mute">{until < Date.now() ? "was muted" : "muted"}</span> <span class="muted">until <Time at={until} /></span>
          </>
        )}
      </td>
      <td role="cell" class="said" data-label="Of">
        <div dir="auto" class="said-text clamp-3" title={opinion.text.slice(0, 4000)}>{textOr(opinion.text, opinion.template_key)}</div>
        <div class="muted said-about">
          {opinion.service !== undefined && <span>only of {opinion.service || "the unnamed service"}</span>}
          {opinion.tenant && <span>{opinion.tenant}</span>}
          {opinion.comment && <span dir="auto">“{opinion.comment}”</span>}
        </div>
      </td>
      <td role="cell" data-label="By">{opinion.author || <span class="muted">–</span>}</td>
      <td role="cell" data-label="When">{opinion.given_at ? <Time at={read(opinion.given_at)} /> : <span class="muted">by hand</span>}</td>
      {settings.value.may_give_feedback && (
        <td role="cell" class="tell">
          {asked.value ? (
            <span class="buttons">
              <button type="button" class="danger" onClick={withdraw}>Take back</button>
              <button type="button" class="quiet" onClick={() => (asked.value = false)}>Keep</button>
            </span>
          ) : (
            <button type="button" class="quiet" aria-label={`Withdraw what was said of ${textOr(opinion.text, opinion.template_key).slice(0, 80)}`} onClick={() => (asked.value = true)}>
              Withdraw
            </button>
          )}
        </td>
      )}
    </tr>
  );
}
