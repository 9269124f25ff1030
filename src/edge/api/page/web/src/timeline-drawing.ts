// Paints incidents on the canvas of the time line.
//
// What enters: bars with their lanes, a window of time, a size. What leaves: pixels, and the boxes that were painted, for the pointer to
// find. Promised: an incident is never narrower than can be hit; its height at a time is its rate then, its colour the worst
// severity, which its letter says as well; what has no lane is counted in the strip at the bottom, and where
// most have none, all are counted instead. Absent: events (timeline.tsx).
import { ticks } from "./axis";
import type { Entry, Window } from "./incidents";
import type { Layout } from "./lanes";
import { SEVERITIES, severityOf } from "./severity";
import { read } from "./times";
import { colour } from "./theme";

export const AXIS_PX = 22;
export const CROWD_PX = 20;
export const LEAST_BAR_PX = 7;
const CROWD_BUCKET_PX = 8;
// With more than this share of incidents left out, lanes would be a sample: then all are counted instead.
const MOST_CROWDED = 0.35;
const HEAP_PX = 12;
const HIGH_LANE_PX = 32;
const WORDS_PX = 15;

export interface Box {
  entry: Entry;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

// Several incidents that are not drawn one by one.
export interface Crowd {
  left: number;
  right: number;
  top: number;
  words: string;
}

export interface Painted {
  boxes: Box[];
  crowds: Crowd[];
}

interface Scene {
  entries: readonly Entry[];
  layout: Layout;
  // Share of the incidents in sight that have no lane.
  crowdedInSight: number;
  window: Window;
  width: number;
  height: number;
  marked: string;
  now: number;
}

export function paint(context: CanvasRenderingContext2D, scene: Scene): Painted {
  const { window: shown, width, height, layout } = scene;
  const toX = (at: number) => ((at - shown.from) / (shown.to - shown.from)) * width;
  context.clearRect(0, 0, width, height);
  context.font = `11px ${FONT}`;
  context.textBaseline = "middle";
  paintAxis(context, scene, toX);

  if (scene.crowdedInSight > MOST_CROWDED) return { boxes: [], crowds: paintHeap(context, scene, toX) };
  const boxes: Box[] = [];
  const crowdCounts = new Map<number, number>();
  const bottom = height - AXIS_PX - (layout.crowded > 0 ? CROWD_PX : 0);
  const laneHeight = bottom / Math.max(layout.lanes, 1);
  // Where the next bar of a lane begins: as far as a label may go.
  const visible: { entry: Entry; lane: number; left: number; right: number }[] = [];
  scene.entries.forEach((entry, index) => {
    const left = toX(entry.first);
    const right = Math.max(toX(entry.last), left + LEAST_BAR_PX - 1);
    if (right < 0 || left > width) return;
    const lane = layout.lane[index] ?? -1;
    if (lane >= 0) visible.push({ entry, lane, left, right });
    else {
      const bucket = Math.floor((left + right) / 2 / CROWD_BUCKET_PX);
      crowdCounts.set(bucket, (crowdCounts.get(bucket) ?? 0) + 1);
    }
  });
  visible.sort((a, b) => a.lane - b.lane || a.left - b.left);
  visible.forEach((bar, index) => {
    const next = visible[index + 1];
    const free = next && next.lane === bar.lane ? next.left : width;
    const gap = Math.min(3, laneHeight * 0.15);
    const box = { entry: bar.entry, left: bar.left, right: bar.right, top: bar.lane * laneHeight + gap, bottom: (bar.lane + 1) * laneHeight - gap };
    paintBar(context, box, free, scene.marked === bar.entry.id, toX);
    boxes.push(box);
  });
  return { boxes, crowds: paintCrowds(context, crowdCounts, bottom) };
}

const ALL_SEVERITIES = [...SEVERITIES, severityOf(0)];
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';

function paintAxis(context: CanvasRenderingContext2D, scene: Scene, toX: (at: number) => number): void {
  const { window: shown, width, height } = scene;
  const base = height - AXIS_PX;
  for (const tick of ticks(shown.from, shown.to, width)) {
    const x = Math.round(toX(tick.at)) + 0.5;
    context.strokeStyle = colour(tick.strong ? "line-strong" : "line");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, base + 4);
    context.stroke();
    context.fillStyle = colour(tick.strong ? "ink" : "muted");
    const wide = context.measureText(tick.label).width;
    const at = Math.min(Math.max(x - wide / 2, 2), width - wide - 2);
    context.fillText(tick.label, at, base + 13);
  }
  context.strokeStyle = colour("line-strong");
  context.beginPath();
  context.moveTo(0, base + 0.5);
  context.lineTo(width, base + 0.5);
  context.stroke();
  const now = Math.round(toX(scene.now)) + 0.5;
  if (now > 0 && now < width) {
    context.strokeStyle = colour("accent");
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(now, 0);
    context.lineTo(now, base);
    context.stroke();
    context.setLineDash([]);
  }
}

function paintBar(context: CanvasRenderingContext2D, box: Box, free: number, marked: boolean, toX: (at: number) => number): void {
  const { entry, left, right, bottom } = box;
  // In a high lane the words have a line of their own, above the bar.
  const above = bottom - box.top >= HIGH_LANE_PX ? WORDS_PX : 0;
  const top = box.top + above;
  const high = bottom - top;
  const paintColour = colour(`severity-${entry.severity.name}`);
  context.fillStyle = paintColour;
  // The span it lasted, faint; its rate over time, full.
  context.globalAlpha = 0.22;
  context.fillRect(left, top, right - left, high);
  context.globalAlpha = 1;
  const { course } = entry.incident;
  const wide = right - left;
  if (course && course.records.length > 1 && wide > 12) {
    const start = read(course.start);
    const span = course.span_seconds * 1000;
    const most = Math.max(...course.records, 1);
    context.globalAlpha = 0.85;
    for (let index = 0; index < course.records.length; index++) {
      const records = course.records[index] ?? 0;
      if (records === 0) continue;
      const from = Math.max(toX(start + index * span), left);
      const to = Math.min(toX(start + (index + 1) * span), right);
      // Square root: small rates stay to be seen beside a peak.
      const rate = Math.max(Math.sqrt(records / most) * high, 1.5);
      context.fillRect(from, bottom - rate, Math.max(to - from - (to - from > 4 ? 0.5 : 0), 1), rate);
    }
    context.globalAlpha = 1;
  } else {
    context.globalAlpha = 0.85;
    context.fillRect(left, top, right - left, high);
    context.globalAlpha = 1;
  }
  // The leading edge.
  context.fillRect(left, top, 2.5, high);
  if (marked) {
    context.strokeStyle = colour("ink");
    context.lineWidth = 1.5;
    context.strokeRect(left - 1.5, top - 1.5, right - left + 3, high + 3);
  }
  paintLabel(context, box, free);
}

function paintLabel(context: CanvasRenderingContext2D, { entry, left, right, top, bottom }: Box, free: number): void {
  const high = bottom - top;
  if (high < 10) return;
  const isAbove = high >= HIGH_LANE_PX;
  const isOn = !isAbove && right - left > 90;
  const middle = isAbove ? top + WORDS_PX / 2 : top + high / 2;
  const start = isAbove ? Math.max(left, 0) + 1 : isOn ? Math.max(left, 0) + 7 : right + 4;
  const room = (isOn ? right : free) - start - 6;
  const { letter } = entry.severity;
  context.font = `600 11px ${FONT}`;
  const letterWidth = context.measureText(letter).width;
  if (room < letterWidth) return;
  context.font = `11px ${FONT}`;
  const text = `${entry.service ? `${entry.service}: ` : ""}${entry.line}`;
  const fits = room > 70 ? fitting(context, text, room - letterWidth - 5) : "";
  // A plate of the background beneath, so that it can be read over lines and bars.
  context.globalAlpha = 0.82;
  context.fillStyle = colour("surface");
  context.fillRect(start - 2, middle - 7, letterWidth + (fits ? 5 + context.measureText(fits).width : 0) + 4, 14);
  context.globalAlpha = 1;
  context.fillStyle = colour(`severity-${entry.severity.name}-ink`);
  context.font = `600 11px ${FONT}`;
  context.fillText(letter, start, middle);
  if (fits) {
    context.fillStyle = colour("ink");
    context.font = `11px ${FONT}`;
    context.fillText(fits, start + letterWidth + 5, middle);
  }
}

// As much of the beginning of a text as fits; one line of it.
function fitting(context: CanvasRenderingContext2D, text: string, room: number): string {
  const line = text.slice(0, 160).replace(/\s+/g, " ");
  if (context.measureText(line).width <= room) return line;
  let low = 0;
  let high = line.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${line.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low > 3 ? `${line.slice(0, low)}…` : "";
}

function paintCrowds(context: CanvasRenderingContext2D, counts: Map<number, number>, top: number): Crowd[] {
  const most = Math.max(...counts.values(), 1);
  const crowds: Crowd[] = [];
  context.fillStyle = colour("muted");
  for (const [bucket, count] of counts) {
    const left = bucket * CROWD_BUCKET_PX;
    const high = Math.max((Math.sqrt(count / most)) * (CROWD_PX - 4), 2);
    context.fillRect(left + 1, top + CROWD_PX - 1 - high, CROWD_BUCKET_PX - 2, high);
    crowds.push({ left, right: left + CROWD_BUCKET_PX, top, words: `${count} more here: click to zoom in` });
  }
  return crowds;
}

// How many began when, gravest at the bottom: for a view of more than can be drawn one by one.
function paintHeap(context: CanvasRenderingContext2D, scene: Scene, toX: (at: number) => number): Crowd[] {
  const base = scene.height - AXIS_PX;
  const top = 18;
  const heaps = new Map<number, Map<string, number>>();
  let most = 1;
  for (const entry of scene.entries) {
    const bucket = Math.floor(toX(entry.first) / HEAP_PX);
    if (bucket < 0 || bucket * HEAP_PX > scene.width) continue;
    const heap = heaps.get(bucket) ?? new Map<string, number>();
    heaps.set(bucket, heap);
    heap.set(entry.severity.name, (heap.get(entry.severity.name) ?? 0) + 1);
    heap.set("", (heap.get("") ?? 0) + 1);
    most = Math.max(most, heap.get("") ?? 0);
  }
  const crowds: Crowd[] = [];
  for (const [bucket, heap] of heaps) {
    const left = bucket * HEAP_PX;
    let bottom = base;
    const words: string[] = [];
    for (const { name, word } of ALL_SEVERITIES) {
      const count = heap.get(name) ?? 0;
      if (count === 0) continue;
      const high = Math.max((count / most) * (base - top), 1);
      context.fillStyle = colour(`severity-${name}`);
      context.fillRect(left + 1, bottom - high, HEAP_PX - 2, high - (high > 3 ? 1 : 0));
      bottom -= high;
      words.push(`${count} ${word.toLowerCase()}`);
    }
    crowds.push({ left, right: left + HEAP_PX, top: bottom - 6, words: `${heap.get("") ?? 0} began here: ${words.join(", ")}. Click to zoom in` });
  }
  context.font = `11px ${FONT}`;
  context.fillStyle = colour("muted");
  context.fillText(`incidents that began, at most ${most} at a time; zoom in to see each`, 4, 8);
  return crowds;
}
