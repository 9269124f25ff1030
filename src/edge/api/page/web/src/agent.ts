// Calls of the agent that the page came from: its API as JSON, its settings, its stream of changes.
//
// What enters: a method and its message. What leaves: the answer's message, or an `AgentError` that says what is wrong in
// the agent's own words. Promised: nobody else is asked; the token goes with every call and is kept for this tab only; the
// stream ends by an error or by `stop`, never silently (the agent speaks every 15 s). Absent: trying again (live.ts).
import { signal } from "@preact/signals";
import type { Change } from "./model";
import { remembered } from "./remembered";

const token = remembered("token", "", "sessionStorage");
// Whether the agent wants a token that we do not have.
export const needsToken = signal(false);
// The agent says something at least every 15 s; a stream that is silent for so long is dead.
const SILENCE_MS = 45_000;

export class AgentError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export function giveToken(given: string): void {
  token.value = given.trim();
  needsToken.value = false;
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const sent = token.peek();
  if (sent) headers.set("authorization", `Bearer ${sent}`);
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, headers, cache: "no-store" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new AgentError("The agent cannot be reached; is it running?", 0);
  }
  if (answer.ok) return answer;
  let said = "";
  try {
    said = ((await answer.json()) as { message?: string }).message ?? "";
  } catch {
    said = "";
  }
  // Of two calls that were refused, the second must not take back a token that was given in between.
  if (answer.status === 401 && sent === token.peek()) {
    token.value = "";
    needsToken.value = true;
  }
  throw new AgentError(said || `The agent answered ${answer.status} ${answer.statusText}`.trim(), answer.status);
}

export async function call<Answer>(method: string, message: object = {}): Promise<Answer> {
  const answer = await ask(`/harbinger.v1.Incidents/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(message),
  });
  return (await answer.json()) as Answer;
}

export async function get<Answer>(path: string): Promise<Answer> {
  return (await (await ask(path)).json()) as Answer;
}

// Hears changes until the stream ends, which it always does by an error.
export async function watch(after: number | undefined, hear: (change: Change) => void, stop: AbortSignal): Promise<never> {
  const silence = new AbortController();
  let timer = window.setTimeout(() => silence.abort(), SILENCE_MS);
  const end = () => silence.abort();
  stop.addEventListener("abort", end);
  try {
    const query = after === undefined ? "" : `?after_sequence=${after}`;
    const answer = await ask(`/harbinger.v1.Incidents/WatchIncidents${query}`, {
      headers: { accept: "text/event-stream" },
      signal: silence.signal,
    });
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    if (!reader) throw new AgentError("The agent's stream has no body", answer.status);
    let rest = "";
    let data: string[] = [];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new AgentError("The agent ended the stream", 0);
      window.clearTimeout(timer);
      timer = window.setTimeout(() => silence.abort(), SILENCE_MS);
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length > 0) {
          hear(JSON.parse(data.join("\n")) as Change);
          data = [];
        }
      }
    }
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw new AgentError("The agent's stream fell silent", 0);
    if (error instanceof AgentError) throw error;
    throw new AgentError("The connection to the agent was lost", 0);
  } finally {
    stop.removeEventListener("abort", end);
    window.clearTimeout(timer);
  }
}
