// Telling the agent what an incident, or one of its templates, is: normal, muted for a time, or real.
//
// What enters: an incident; what the reader says. What leaves: one call of GiveFeedback, and what the agent answered, in its words. Promised:
// nothing is sent but by the button; what is said is about what stands beside it; the author is remembered, the comment is not.
// Absent: in a report, where nobody listens, and where the agent does not allow it.
import { useSignal } from "@preact/signals";
import { call } from "./agent";
import { templatesOf, textOr } from "./incidents";
import { ensure, feedbackGiven, refreshStatus, settings } from "./live";
import type { Feedback, FeedbackAnswer, Incident } from "./model";
import { remembered } from "./remembered";
import { linkTo } from "./address";

const author = remembered("author", "");
export const SUBJECT_ID = "feedback-subject";

const OPINIONS: [name: string, words: string, explained: string][] = [
  ["normal", "Normal", "Daily business: not to be marked any more."],
  ["mute", "Mute for …", "Known, and does not matter for now: not marked until then, and not learned from."],
  ["real", "Real", "Rightly marked: never to be taken for usual."],
];
const HOUR_MS = 3_600_000;
const LENGTHS: [words: string, hours: number][] = [["1 hour", 1], ["8 hours", 8], ["1 day", 24], ["1 week", 168]];

// `subject` is the key of a template, or empty for the whole incident.
export function FeedbackForm({ of, subject }: { of: Incident; subject: { value: string } }) {
  const opinion = useSignal("");
  const hours = useSignal("24");
  const until = useSignal("");
  const onlyService = useSignal(false);
  const comment = useSignal("");
  const busy = useSignal(false);
  const answer = useSignal<FeedbackAnswer | undefined>(undefined);
  const trouble = useSignal("");
  const template = of.templates.find((one) => one.template_key === subject.value);
  const service = template?.service ?? "";

  const send = async (event: Event) => {
    event.preventDefault();
    answer.value = undefined;
    trouble.value = "";
    const given: Feedback = { comment: comment.value.trim(), author: author.value.trim() };
    if (of.tenant) given.tenant = of.tenant;
    if (template) given.template_key = template.template_key;
    else given.incident_id = of.id;
    if (template && service && onlyService.value) given.service = service;
    if (opinion.value === "normal") given.normal = {};
    else if (opinion.value === "real") given.real = {};
    else if (opinion.value === "mute") {
      const end = hours.value === "custom" ? Date.parse(until.value) : Date.now() + Number(hours.value) * HOUR_MS;
      if (!(end > Date.now())) {
        trouble.value = "Say until when to mute: a time to come.";
        return;
      }
      given.mute_until = new Date(end).toISOString();
    } else {
      trouble.value = "Choose what it is: normal, muted or real.";
      return;
    }
    busy.value = true;
    try {
      answer.value = await call<FeedbackAnswer>("GiveFeedback", given);
      comment.value = "";
      opinion.value = "";
      feedbackGiven.value++;
      await Promise.allSettled([ensure(of.id), refreshStatus()]);
    } catch (error) {
      trouble.value = error instanceof Error ? error.message : String(error);
    } finally {
      busy.value = false;
    }
  };

  return (
    <section class="part feedback-form">
      <h2>What is it?</h2>
      {settings.value.may_give_feedback ? (
        <form onSubmit={(event) => void send(event)}>
          <label>
            <span>About</span>
            <select id={SUBJECT_ID} value={template ? subject.value : ""} onChange={(event) => (subject.value = event.currentTarget.value)}>
              <option value="">The whole incident: each of its anomalous templates</option>
              {templatesOf(of).map((one, index) => (
                <option key={`${one.template_key}${index}`} value={one.template_key}>
                  {index + 1}: {textOr(one.text, one.template_key).slice(0, 90)}
                </option>
              ))}
            </select>
          </label>
          {template && service && (
            <label class="inline">
              <input type="checkbox" checked={onlyService.value} onChange={(event) => (onlyService.value = event.currentTarget.checked)} /> only as
              said by {service}
            </label>
          )}
          <fieldset>
            <legend>It is</legend>
            {OPINIONS.map(([name, words, explained]) => (
              <label key={name} class={`choice ${opinion.value === name ? "chosen" : ""}`}>
                <input type="radio" name="opinion" value={name} checked={opinion.value === name} onChange={() => (opinion.value = name)} />
                <b>{words}</b> <span class="muted">{explained}</span>
              </label>
            ))}
          </fieldset>
          {opinion.value === "mute" && (
            <label>
              <span>For</span>
              <select value={hours.value} onChange={(event) => (hours.value = event.currentTarget.value)}>
                {LENGTHS.map(([words, value]) => (
                  <option key={words} value={String(value)}>{words}</option>
                ))}
                <option value="custom">until …</option>
              </select>
            </label>
          )}
          {opinion.value === "mute" && hours.value === "custom" && (
            <label>
              <span>Until (your zone)</span>
              <input type="datetime-local" value={until.value} onInput={(event) => (until.value = event.currentTarget.value)} />
            </label>
          )}
          <label>
            <span>Comment</span>
            <input type="text" value={comment.value} maxLength={1000} placeholder="Why, for whoever reads it later" onInput={(event) => (comment.value = event.currentTarget.value)} />
          </label>
          <label>
            <span>Who says so</span>
            <input type="text" value={author.value} maxLength={200} autocomplete="name" onInput={(event) => (author.value = event.currentTarget.value)} />
          </label>
          <button type="submit" class="primary" disabled={busy.value || !opinion.value}>{busy.value ? "Telling …" : "Tell the agent"}</button>
        </form>
      ) : (
        <p class="muted">This agent takes no feedback from the page.</p>
      )}
      <div role="status" class="answer">
        {answer.value && (
          <div class="notice good">
            <p>{answer.value.summary}</p>
            {!answer.value.kept && <p>It is not on the disk: a restart forgets it.</p>}
            <p><a href={linkTo("feedback")}>All feedback</a></p>
          </div>
        )}
      </div>
      {trouble.value && <p role="alert" class="notice bad">{trouble.value}</p>}
    </section>
  );
}
