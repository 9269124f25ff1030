// The templates that the agent knows, those that count as anomalous first.
//
// What enters: ListTemplates, page by page; words to search for. What leaves: a list. Promised: an answer that comes late does not replace a
// newer one. Absent: changing templates (feedback, from an incident, does that).
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "./agent";
import { count } from "./badges";
import { go, place } from "./address";
import { textOr } from "./incidents";
import { feedbackGiven } from "./live";
import type { Template } from "./model";
import { Time } from "./time";
import { read } from "./times";

const PAGE = 100;

interface Found {
  templates: Template[];
  next: string;
}

export function TemplatesPage() {
  const found = useSignal<Found | undefined>(undefined);
  const trouble = useSignal("");
  const flaggedOnly = useSignal(false);
  const { text } = place.value.filters;
  const given = feedbackGiven.value;

  useEffect(() => {
    let isLate = false;
    const ask = async () => {
      try {
        const flagged = await list({ text_contains: text, flagged_only: true });
        const others = flaggedOnly.value ? { templates: [], next: "" } : await list({ text_contains: text });
        const keys = new Set(flagged.templates.map((one) => one.key));
        if (isLate) return;
        found.value = {
          templates: [...flagged.templates, ...others.templates.filter((one) => !keys.has(one.key))],
          next: flaggedOnly.value ? flagged.next : others.next,
        };
        trouble.value = "";
      } catch (error) {
        if (!isLate) trouble.value = error instanceof Error ? error.message : String(error);
      }
    };
    const timer = window.setTimeout(() => void ask(), found.peek() ? 200 : 0);
    return () => {
      isLate = true;
      window.clearTimeout(timer);
    };
  }, [text, flaggedOnly.value, given]);

  const more = async () => {
    const now = found.peek();
    if (!now?.next) return;
    try {
      const next = await list({ text_contains: text, flagged_only: flaggedOnly.value, page_token: now.next });
      const keys = new Set(now.templates.map((one) => one.key + one.tenant));
      found.value = { templates: [...now.templates, ...next.templates.filter((one) => !keys.has(one.key + one.tenant))], next: next.next };
    } catch (error) {
      trouble.value = error instanceof Error ? error.message : String(error);
    }
  };

  return (
    <section class="page-part" aria-labelledby="templates-heading">
      <h1 id="templates-heading">Known templates</h1>
      <form class="filters" role="search" aria-label="Templates" onSubmit={(event) => event.preventDefault()}>
        <label class="grow">
          <span>Search</span>
          <input id="search" type="search" value={text} placeholder="Part of the text   press /" onInput={(event) => go({ filters: { text: event.currentTarget.value } }, true)} />
        </label>
        <label class="inline">
          <input type="checkbox" checked={flaggedOnly.value} onChange={(event) => (flaggedOnly.value = event.currentTarget.checked)} /> flagged only
        </label>
      </form>
      {trouble.value && <p role="alert" class="notice bad">{trouble.value}</p>}
      {found.value && <List templates={found.value.templates} />}
      {found.value?.next && <button type="button" class="quiet" onClick={() => void more()}>Show more</button>}
      {!found.value && !trouble.value && <p class="muted">Asking the agent …</p>}
    </section>
  );
}

async function list(message: object): Promise<Found> {
  const answer = await call<{ templates: Template[]; next_page_token: string }>("ListTemplates", { page_size: PAGE, ...message });
  return { templates: answer.templates, next: answer.next_page_token };
}

function List({ templates }: { templates: readonly Template[] }) {
  if (templates.length === 0) return <p class="muted">None matches.</p>;
  return (
    <table class="plain" role="table" aria-label="Templates">
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader">Template</th>
          <th role="columnheader" class="number">Records</th>
          <th role="columnheader">First seen</th>
          <th role="columnheader">Last seen</th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        {templates.map((one) => (
          <tr role="row" key={`${one.tenant}/${one.key}`}>
            <td role="cell" class="said">
              <div dir="auto" class="said-text clamp-3" title={one.text.slice(0, 4000)}>{textOr(one.text, one.key)}</div>
              <div class="muted said-about">
                {one.flagged_since && <span class="badge flagged">flagged</span>}
                {one.suppressed && <span class="badge" title="It would be marked but for its service's budget, or a release">held back</span>}
                <span>{one.services.join(", ")}</span>
                {one.tenant && <span>{one.tenant}</span>}
                <code>{one.key}</code>
              </div>
            </td>
            <td role="cell" class="number" data-label="Records">{count(one.records)}</td>
            <td role="cell" data-label="First seen"><Time at={read(one.first_seen)} /></td>
            <td role="cell" data-label="Last seen"><Time at={read(one.last_seen)} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
