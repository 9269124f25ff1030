// Round times for the ticks of an axis, in the zone that is shown.
//
// What enters: a window of time and how many pixels it has. What leaves: ticks with their labels; a tick that begins a day
// names it. Promised: labels do not overlap at the width they are asked for. Absent: drawing.
import { clock, day, offsetMs } from "./times";

export interface Tick {
  at: number;
  label: string;
  // Begins a day, where others do not.
  strong: boolean;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
  DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 182 * DAY, 364 * DAY, 3640 * DAY,
];

export function ticks(from: number, to: number, pixels: number, apart = 84): Tick[] {
  const least = ((to - from) / Math.max(pixels, 1)) * apart;
  const step = STEPS.find((one) => one >= least) ?? 36400 * DAY;
  const offset = offsetMs((from + to) / 2);
  const found: Tick[] = [];
  for (let at = Math.ceil((from + offset) / step) * step - offset; at <= to && found.length < 200; at += step) {
    const time = clock(at);
    const isDay = time === "00:00:00" || step >= DAY;
    found.push({ at, strong: isDay && step < DAY, label: isDay ? day(at) : step < MINUTE ? time : time.slice(0, 5) });
  }
  return found;
}
