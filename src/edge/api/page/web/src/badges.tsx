// Small marks that stand in several places: severity, state, services, numbers.
//
// What enters: what they say. What leaves: elements. Promised: words, not only colours; texts of logs as text. Absent: state.
import type { Entry } from "./incidents";
import type { Incident } from "./model";
import type { Severity } from "./severity";

export function SeverityBadge({ of }: { of: Severity }) {
  return <span class={`badge severity severity-${of.name}`}>{of.word}</span>;
}

const STATES: Record<string, string> = {
  INCIDENT_STATE_OPEN: "open",
  INCIDENT_STATE_CLOSED: "closed",
  INCIDENT_STATE_MERGED: "merged",
};
const ENDINGS: Record<string, string> = {
  INCIDENT_ENDING_SILENCE: "it fell silent",
  INCIDENT_ENDING_MAX_LIFE: "it reached the longest life; what follows is its child",
  INCIDENT_ENDING_BOUND: "there were too many at a time",
  INCIDENT_ENDING_DISMISSED: "somebody said that it is none",
};

export function stateWord(incident: Incident): string {
  return STATES[incident.state] ?? "unknown";
}

export function endingWords(incident: Incident): string {
  return ENDINGS[incident.ending] ?? "";
}

export function StateBadge({ of }: { of: Entry }) {
  const word = stateWord(of.incident);
  return (
    <span class={`badge state state-${word}`} title={endingWords(of.incident)}>
      {word}
    </span>
  );
}

const grouped = new Intl.NumberFormat("en");
// 12,345
export function count(value: number): string {
  return grouped.format(value);
}

export function plural(value: number, word: string, words = `${word}s`): string {
  return `${count(value)} ${value === 1 ? word : words}`;
}
