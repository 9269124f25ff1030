// Event times: read, written in the reader's zone or in UTC, and how long things took.
//
// What enters: RFC 3339 strings of the agent, milliseconds since 1970. What leaves: short texts of fixed width. Promised:
// one notation everywhere (2024-11-18 10:00:00), so that columns line up; changing the zone repaints whatever shows a time.
// Absent: locales (names of months would not line up, and logs are read by their digits), nanoseconds.
import { remembered } from "./remembered";

// "utc", or else the zone of the reader's machine.
export const zone = remembered("zone", "local");

export function read(time: string | undefined): number {
  return time ? Date.parse(time) : NaN;
}

const two = (value: number): string => String(value).padStart(2, "0");

function parts(at: number, utc: boolean): [date: string, time: string, milliseconds: number] {
  const t = new Date(at);
  return utc
    ? [
        `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`,
        `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())}`,
        t.getUTCMilliseconds(),
      ]
    : [
        `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`,
        `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`,
        t.getMilliseconds(),
      ];
}

const inUtc = (): boolean => zone.value === "utc";

export function day(at: number): string {
  return Number.isFinite(at) ? parts(at, inUtc())[0] : "–";
}

export function clock(at: number): string {
  return Number.isFinite(at) ? parts(at, inUtc())[1] : "–";
}

export function dayAndClock(at: number): string {
  return Number.isFinite(at) ? `${day(at)} ${clock(at)}` : "–";
}

// With milliseconds, and in UTC: what is shown on hover.
export function exact(at: number): string {
  if (!Number.isFinite(at)) return "";
  const [date, time, milliseconds] = parts(at, true);
  return `${date} ${time}.${String(milliseconds).padStart(3, "0")} UTC`;
}

// The last of a day begins it, in the zone that is shown: for ticks of axes.
export function offsetMs(at: number): number {
  return inUtc() ? 0 : -new Date(at).getTimezoneOffset() * 60_000;
}

export function zoneName(): string {
  return inUtc() ? "UTC" : (Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local");
}

const UNITS: [ms: number, word: string][] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"],
];

// The two largest units: 4 min 12 s.
export function howLong(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 1_000) return ms < 1 ? "0 s" : `${Math.max(0.1, ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000) * 1000;
  const first = UNITS.findIndex(([unit]) => seconds >= unit);
  const [unit, word] = UNITS[first] ?? [1000, "s"];
  const whole = Math.floor(seconds / unit);
  const [less, lessWord] = UNITS[first + 1] ?? [0, ""];
  const rest = less ? Math.floor((seconds % unit) / less) : 0;
  return rest > 0 && whole < 100 ? `${whole} ${word} ${rest} ${lessWord}` : `${whole} ${word}`;
}
