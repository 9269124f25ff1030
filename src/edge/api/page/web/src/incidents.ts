// The incidents that are known here, and those of them that the filters let through.
//
// What enters: incidents as the agent or the report has them; the filters of the address. What leaves: signals that views
// read. Promised: one entry an id; an entry is replaced, never changed, so that a view can tell by identity; all is done in
// a few milliseconds for 5,000. Absent: where they come from (live.ts, report.ts) and how they look.
import { computed, signal } from "@preact/signals";
import { place, type Filters, type Order } from "./address";
import type { Incident, TemplateCount } from "./model";
import { severityOf, type Severity } from "./severity";
import { read } from "./times";

export interface Entry {
  id: string;
  incident: Incident;
  first: number;
  last: number;
  severity: Severity;
  severityNumber: number;
  open: boolean;
  // Of the leading edge.
  service: string;
  line: string;
}

export const DAY_MS = 86_400_000;
// Logs that are no further behind than this are of today; older ones are replayed, and "now" is where they have come to.
const NEAR_MS = DAY_MS / 2;

const known = new Map<string, Entry>();
const version = signal(0);
// The latest event time that anything told of.
const latest = signal(NaN);
// Whether a report is shown: then the period is all, if none is chosen.
export const isReport = signal(false);
export const loaded = signal(false);

// A text for a line of which no text is kept.
export function textOr(text: string | undefined, key: string | undefined): string {
  return text?.trim() ? text : key ? `template ${key}` : "(no text)";
}

// An incident's templates in the order in which the page numbers them: the anomalous ones as they appeared, then context.
export function templatesOf(incident: Incident): TemplateCount[] {
  const isContext = (one: TemplateCount) => Number(one.anomalous_records === 0);
  return [...incident.templates].sort(
    (a, b) => isContext(a) - isContext(b) || (read(a.first_time) || 0) - (read(b.first_time) || 0) || b.records - a.records,
  );
}

function entryOf(incident: Incident): Entry {
  const edge = incident.leading_edge ?? incident.worst;
  const first = read(incident.first_time ?? edge?.time);
  const last = read(incident.last_time);
  const severityNumber = incident.worst?.severity_number ?? edge?.severity_number ?? 0;
  return {
    id: incident.id,
    incident,
    first,
    last: Number.isFinite(last) ? last : first,
    severity: severityOf(severityNumber),
    severityNumber,
    open: incident.state === "INCIDENT_STATE_OPEN",
    service: edge?.service || incident.services[0] || "",
    line: textOr(edge?.text, edge?.template_key),
  };
}

export function put(incidents: readonly Incident[], time = NaN): void {
  let newest = Math.max(latest.peek() || -Infinity, Number.isFinite(time) ? time : -Infinity);
  for (const incident of incidents) {
    if (!incident.id) continue;
    const entry = entryOf(incident);
    known.set(entry.id, entry);
    if (entry.last > newest) newest = entry.last;
  }
  if (Number.isFinite(newest)) latest.value = newest;
  version.value++;
}

// Forgets what is not among these: after a list was made anew.
export function keepOnly(ids: ReadonlySet<string>): void {
  for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
  version.value++;
}

export function find(id: string): Entry | undefined {
  void version.value;
  const there = known.get(id);
  if (there) return there;
  for (const entry of known.values()) if (entry.incident.aliases.includes(id)) return entry;
  return undefined;
}

export const all = computed<Entry[]>(() => {
  void version.value;
  return [...known.values()];
});

export const openCount = computed(() => all.value.filter((entry) => entry.open && entry.incident.announced).length);

// Where time has come to: the clock's, or, where logs of old are replayed, theirs.
export function present(): number {
  const clock = Date.now();
  const told = latest.value;
  if (isReport.value) return Number.isFinite(told) ? told : clock;
  return Number.isFinite(told) && Math.abs(clock - told) > NEAR_MS ? told : clock;
}

export const PERIODS: [name: string, words: string, ms: number][] = [
  ["1h", "Last hour", DAY_MS / 24],
  ["6h", "Last 6 hours", DAY_MS / 4],
  ["24h", "Last 24 hours", DAY_MS],
  ["7d", "Last 7 days", 7 * DAY_MS],
  ["all", "All there is", Infinity],
];

export function periodOf(filters: Filters): string {
  if (Number.isFinite(filters.from) && Number.isFinite(filters.to)) return "";
  return filters.period || (isReport.value ? "all" : "24h");
}

// On call one looks at what comes; in a report at what was.
export function orderOf(filters: Filters): Order {
  return filters.order || (isReport.value ? "gravest" : "newest");
}

function passes(entry: Entry, filters: Filters, text: string): boolean {
  const { incident } = entry;
  if (!incident.announced && entry.open) return false;
  if (filters.state === "open" ? !entry.open : filters.state === "closed" && incident.state !== "INCIDENT_STATE_CLOSED") return false;
  if ((filters.state === "merged") !== (incident.state === "INCIDENT_STATE_MERGED")) return false;
  if (entry.severityNumber < filters.severity) return false;
  if (filters.service && !incident.services.includes(filters.service)) return false;
  return !text || searched(entry).includes(text);
}

// What a search looks at, in lower case; made when first searched.
const searchable = new WeakMap<Incident, string>();
function searched({ incident }: Entry): string {
  let words = searchable.get(incident);
  if (words === undefined) {
    words = [
      incident.id,
      incident.tenant,
      ...incident.aliases,
      ...incident.services,
      incident.leading_edge?.text ?? "",
      incident.worst?.text ?? "",
      ...incident.templates.map((template) => `${template.text}\n${template.template_key}`),
    ]
      .join("\n")
      .toLowerCase();
    searchable.set(incident, words);
  }
  return words;
}

const ORDER: Record<Order, (a: Entry, b: Entry) => number> = {
  newest: (a, b) => b.first - a.first,
  largest: (a, b) => b.incident.anomalous_records - a.incident.anomalous_records || b.first - a.first,
  gravest: (a, b) =>
    b.severityNumber - a.severityNumber || b.incident.anomalous_records - a.incident.anomalous_records || b.first - a.first,
};

// All that pass but for their time, so that the time line can be moved over them; the same array for as long as nothing else changes.
const sieve = computed(() => {
  const { state, service, severity, text } = place.value.filters;
  return JSON.stringify([state, service, severity, text]);
});
export const passing = computed<Entry[]>(() => {
  void sieve.value;
  const { filters } = place.peek();
  const text = filters.text.trim().toLowerCase();
  return all.value.filter((entry) => passes(entry, filters, text));
});

export interface Window {
  from: number;
  to: number;
}

// The time that the filters ask for; from -Infinity where all is asked for.
export const asked = computed<Window>(() => {
  const { filters } = place.value;
  if (Number.isFinite(filters.from) && Number.isFinite(filters.to)) return { from: filters.from, to: filters.to };
  const name = periodOf(filters);
  const ms = PERIODS.find(([known]) => known === name)?.[2] ?? Infinity;
  return { from: present() - ms, to: Infinity };
});

export const shown = computed<Entry[]>(() => {
  const { from, to } = asked.value;
  const order = ORDER[orderOf(place.value.filters)];
  return passing.value.filter((entry) => entry.last >= from && entry.first <= to).sort(order);
});

// What there is before the period, for a list that would else look empty.
export const elsewhere = computed(() => passing.value.length - shown.value.length);

// From the first record of any to the last.
export const extent = computed<Window>(() => extentOf(passing.value));

function extentOf(entries: readonly Entry[]): Window {
  let from = Infinity;
  let to = -Infinity;
  for (const entry of entries) {
    if (entry.first < from) from = entry.first;
    if (entry.last > to) to = entry.last;
  }
  return { from, to };
}

// The time line's window: what is asked for, drawn no wider than there is something to see.
export const drawn = computed<Window>(() => {
  const want = asked.value;
  if (Number.isFinite(want.from) && Number.isFinite(want.to)) return want;
  const now = present();
  const { from: first, to: last } = extentOf(shown.value);
  if (first > last) return { from: Number.isFinite(want.from) ? want.from : now - DAY_MS, to: now };
  const isNow = !isReport.value && now - last < DAY_MS / 24 && now >= last;
  const end = isNow ? now : last;
  const margin = Math.max((end - Math.max(first, want.from)) * 0.02, 5_000);
  return { from: Math.max(first, want.from) - margin, to: end + margin };
});

export const services = computed<string[]>(() => {
  const names = new Set<string>();
  for (const { incident } of all.value) for (const name of incident.services) names.add(name);
  return [...names].sort((a, b) => a.localeCompare(b));
});

