// Keeps the page in step with a running agent: lists, then listens, and starts over when the stream breaks.
//
// What enters: the agent's answers and changes. What leaves: incidents (incidents.ts), and signals of the agent's status and of
// the connection. Promised: nothing is missed (the list is asked for after the stream has begun, or the stream resumes where it broke,
// or says that it cannot); however many changes come, views are told once a frame; while paused nothing moves. Absent:
// several agents.
import { signal } from "@preact/signals";
import { AgentError, call, get, needsToken, watch } from "./agent";
import { isReport, keepOnly, loaded, put } from "./incidents";
import type { Change, Incident, Settings, Status } from "./model";
import { read } from "./times";

export type Connection = "connecting" | "live" | "disconnected";
export const connection = signal<Connection>("connecting");
// What broke the connection, in words.
export const trouble = signal("");
export const paused = signal(false);
// Changes that wait for the pause to end.
export const waiting = signal(0);
export const status = signal<Status | undefined>(undefined);
export const settings = signal<Settings>({ links: [], incident_attribute: "incident_id", may_give_feedback: false });
// For people who do not see the list change.
export const announcement = signal("");
// Counts feedback that was given: lists of feedback and templates are asked for again.
export const feedbackGiven = signal(0);

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const STATUS_EVERY_MS = 5_000;
const ANNOUNCE_EVERY_MS = 8_000;

let heard: Change[] = [];
let due = false;
let opened: Incident[] = [];
let announcing = 0;

function apply(): void {
  due = false;
  if (paused.value) {
    waiting.value = heard.length;
    return;
  }
  const changes = heard;
  heard = [];
  waiting.value = 0;
  if (changes.length === 0) return;
  const incidents = changes.flatMap((change) => change.incident ?? []);
  put(incidents, Math.max(...changes.map((change) => read(change.time) || -Infinity)));
  opened.push(...changes.flatMap((change) => (change.happened === "HAPPENED_OPENED" && change.incident ? change.incident : [])));
  if (opened.length > 0 && !announcing) announcing = window.setTimeout(announce, 1_000);
}

function announce(): void {
  announcing = 0;
  const newest = opened.at(-1);
  if (!newest) return;
  const edge = newest.leading_edge;
  const what = `${edge?.severity ?? ""} in ${edge?.service ?? newest.services.join(", ")}`.trim();
  announcement.value = opened.length === 1 ? `New incident: ${what}` : `${opened.length} new incidents, the last: ${what}`;
  opened = [];
  announcing = window.setTimeout(announce, ANNOUNCE_EVERY_MS);
}

// Once a frame; a tab in the background has no frames, so there a timer does it.
function applySoon(): void {
  if (due) return;
  due = true;
  if (document.hidden) window.setTimeout(apply, 500);
  else requestAnimationFrame(apply);
}

export function pause(on: boolean): void {
  paused.value = on;
  if (!on) applySoon();
}

// What changed while a list was on its way: newer than what the list says of it.
let newer = new Set<string>();

async function listAll(): Promise<void> {
  const ids = new Set<string>();
  newer = new Set();
  let page_token = "";
  do {
    const page = await call<{ incidents: Incident[]; next_page_token: string }>("ListIncidents", { page_size: 1000, page_token });
    for (const incident of page.incidents) ids.add(incident.id);
    put(page.incidents.filter((incident) => !newer.has(incident.id)));
    loaded.value = true;
    page_token = page.next_page_token;
  } while (page_token);
  keepOnly(new Set([...ids, ...newer]));
}

export async function refreshStatus(): Promise<void> {
  status.value = await call<Status>("GetStatus");
}

// Asks for one incident by its id or an alias, and keeps what goes on.
export async function ensure(id: string): Promise<{ incident?: Incident; merged_into?: string; merged?: Incident }> {
  const found = await call<{ incident?: Incident; merged_into?: string; merged?: Incident }>("GetIncident", { id });
  put([found.incident, found.merged].filter((one) => one !== undefined));
  return found;
}

const sleep = (ms: number) => new Promise<void>((resolve) => window.setTimeout(resolve, ms));

async function follow(): Promise<never> {
  let after: number | undefined;
  let wait = FIRST_WAIT_MS;
  for (;;) {
    const stop = new AbortController();
    try {
      settings.value = { ...settings.peek(), ...(await get<Settings>("/settings")) };
      await refreshStatus();
      await watch(
        after,
        (change) => {
          if (!change.incident && (change.missed || after === undefined || !loaded.peek())) {
            // The stream has begun: what is listed from here on, or changes, is heard.
            listAll().catch((error: unknown) => {
              trouble.value = error instanceof Error ? error.message : String(error);
              loaded.value = false;
              stop.abort();
            });
          }
          after = change.sequence;
          if (change.incident) {
            heard.push(change);
            newer.add(change.incident.id);
            applySoon();
          }
          connection.value = "live";
          trouble.value = "";
          wait = FIRST_WAIT_MS;
        },
        stop.signal,
      );
    } catch (error) {
      connection.value = "disconnected";
      trouble.value = trouble.peek() || (error instanceof Error ? error.message : String(error));
      if (error instanceof AgentError && error.status === 401) {
        await new Promise<void>((resolve) => {
          const unsubscribe = needsToken.subscribe((needed) => {
            if (!needed) {
              queueMicrotask(() => unsubscribe());
              resolve();
            }
          });
        });
        trouble.value = "";
        connection.value = "connecting";
        continue;
      }
    }
    await sleep(wait);
    trouble.value = "";
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

export function start(): void {
  if (isReport.peek()) return;
  void follow();
  window.setInterval(() => {
    if (!document.hidden && connection.peek() === "live") refreshStatus().catch(() => undefined);
  }, STATUS_EVERY_MS);
}
