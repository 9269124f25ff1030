// A time as it stands in the page: short, in the chosen zone, and exactly in UTC on hover.
//
// What enters: milliseconds since 1970. What leaves: elements. Promised: machines find the exact time in `datetime`. Absent:
// relative times (“3 minutes ago” of a replayed log of last year says nothing).
import { clock, day, dayAndClock, exact } from "./times";

export function Time({ at, short = false }: { at: number; short?: boolean }) {
  if (!Number.isFinite(at)) return <span class="muted">–</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={exact(at)}>
      {short ? clock(at) : dayAndClock(at)}
    </time>
  );
}

export function TimeRange({ from, to }: { from: number; to: number }) {
  return (
    <>
      <Time at={from} /> to <Time at={to} short={day(from) === day(to)} />
    </>
  );
}
