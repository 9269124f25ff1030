// The time line of incidents: a picture of the list beneath it, to see what overlaps and to move through time.
//
// What enters: the incidents that are shown, the pointer, the wheel, keys. What leaves: the picture; another period in the address; an
// incident opened. Promised: it is painted at most once a frame, however much changes; a wheel that cannot zoom out any further
// scrolls the page; all it shows is in the list for those who do not see it. Absent: the painting (timeline-drawing.ts).
import { effect, signal } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { go, place } from "./address";
import { asked, drawn, elsewhere, extent, isReport, passing, present, shown, type Entry, type Window } from "./incidents";
import { layOut, type Layout } from "./lanes";
import { severityOf } from "./severity";
import { isDark, printing } from "./theme";
import { dayAndClock, exact, howLong } from "./times";
import { AXIS_PX, CROWD_PX, LEAST_BAR_PX, paint, type Painted } from "./timeline-drawing";
import { TimeRange } from "./time";

const LANE_PX = 42;
const LEAST_LANE_PX = 13;
// A fifth of the window, so that the list can be seen too.
const mostPx = (): number => Math.min(Math.max(window.innerHeight * 0.21, 150), 250);
const SHORTEST_MS = 1_000;
const LONGEST_MS = 100 * 365 * 86_400_000;
// A little air between two bars of a lane, and room for the letter of a short one.
const APART_PX = 16;

interface Hover {
  x: number;
  y: number;
  entry?: Entry;
  crowd?: string;
}

// The incident that the pointer, or the list's focus, is on.
export const marked = signal("");

function look(window: Window): void {
  const { from, to } = extent.peek();
  if (window.from < from && window.to > to) return go({ filters: { from: NaN, to: NaN, period: isReport.peek() ? "" : "all" } }, true);
  const length = Math.min(Math.max(window.to - window.from, SHORTEST_MS), LONGEST_MS);
  go({ filters: { from: window.from, to: window.from + length } }, true);
}

export function zoom(by: number, at = 0.5): void {
  const { from, to } = drawn.peek();
  const length = Math.min(Math.max((to - from) * by, SHORTEST_MS), LONGEST_MS);
  const fixed = from + (to - from) * at;
  look({ from: fixed - length * at, to: fixed + length * (1 - at) });
}

export function pan(share: number): void {
  const { from, to } = drawn.peek();
  const by = (to - from) * share;
  look({ from: from + by, to: to + by });
}

// Undoes zooming: the period that was chosen.
export function whole(): void {
  go({ filters: { from: NaN, to: NaN } }, true);
}

const isZoomed = (): boolean => Number.isFinite(place.value.filters.from);

class Picture {
  painted: Painted = { boxes: [], crowds: [] };
  private layout: Layout | undefined;
  private laidOut: readonly Entry[] = [];
  private scale = 0;
  private due = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private width: number,
  ) {}

  resize(width: number): void {
    this.width = width;
    this.soon();
  }

  soon(): void {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      this.now();
    });
  }

  stop(): void {
    cancelAnimationFrame(this.due);
  }

  now(): void {
    const sight = drawn.peek();
    const most = Math.round(mostPx());
    const entries = passing.peek();
    const msPerPx = (sight.to - sight.from) / Math.max(this.width, 1);
    const mostLanes = Math.floor((most - AXIS_PX - CROWD_PX) / LEAST_LANE_PX);
    if (!this.layout || this.laidOut !== entries || Math.abs(this.scale / msPerPx - 1) > 0.001) {
      const spans = entries.map((entry) => ({
        first: entry.first,
        last: entry.last + msPerPx * APART_PX,
        weight: entry.severityNumber * 64 + Math.log2(entry.incident.anomalous_records + 1),
      }));
      this.layout = layOut(spans, mostLanes, msPerPx * (LEAST_BAR_PX + APART_PX));
      this.laidOut = entries;
      this.scale = msPerPx;
    }
    const { lane, lanes, crowded } = this.layout;
    // As many lanes as are in sight; the fewer, the higher.
    let [inSight, seen, without] = [1, 0, 0];
    entries.forEach((entry, index) => {
      if (entry.last < sight.from || entry.first > sight.to) return;
      seen++;
      const at = lane[index] ?? -1;
      if (at < 0) without++;
      else if (at >= inSight) inSight = at + 1;
    });
    const strip = AXIS_PX + (crowded ? CROWD_PX : 0);
    const height = Math.min(most, Math.max(lanes, 2) * LANE_PX + strip);
    const layout = { lane, lanes: Math.max(inSight, Math.floor((height - strip) / LANE_PX)), crowded };
    const ratio = globalThis.devicePixelRatio || 1;
    const [wide, high] = [Math.round(this.width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
      this.canvas.style.height = `${height}px`;
    }
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.painted = paint(context, { entries, layout, crowdedInSight: without / Math.max(seen, 1), window: sight, width: this.width, height, marked: marked.peek(), now: isReport.peek() ? NaN : present() });
  }

  at(x: number, y: number): Hover | undefined {
    const near = 3;
    const box = this.painted.boxes.find((one) => x >= one.left - near && x <= one.right + near && y >= one.top && y <= one.bottom);
    if (box) return { x, y, entry: box.entry };
    const base = this.canvas.clientHeight - AXIS_PX;
    const crowd = this.painted.crowds.find((one) => x >= one.left && x < one.right && y >= one.top && y < base);
    return crowd && { x, y, crowd: crowd.words };
  }
}

export function Timeline() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const hover = useMemo(() => signal<Hover | undefined>(undefined), []);
  // Before it is painted: what is printed is not painted first.
  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const picture = new Picture(element, element.clientWidth);
    const resized = new ResizeObserver(() => picture.resize(element.clientWidth));
    resized.observe(element);
    // The first time at once: the height of the page depends on it, and so does where it is scrolled to.
    let isNew = true;
    const stop = effect(() => {
      // What the picture shows; colours and zone are read while it is painted, so they are named here.
      void [drawn.value, passing.value, marked.value, dayAndClock(0), isDark()];
      if (printing.value || isNew) picture.now();
      else picture.soon();
      isNew = false;
    });
    const letGo = handle(element, picture, hover);
    return () => {
      stop();
      resized.disconnect();
      letGo();
      picture.stop();
    };
  }, []);
  const { from, to } = drawn.value;
  const count = shown.value.length;
  return (
    <section class="timeline" aria-label="Time line">
      <div
        class="timeline-picture"
        role="group"
        tabIndex={0}
        aria-label={`Time line of ${count} incidents; plus and minus zoom, left and right move, 0 shows all. The table below lists the same.`}
        onKeyDown={onKey}
      >
        <canvas ref={canvas} aria-hidden="true" />
        <Tip of={hover} />
      </div>
      <div class="timeline-bar">
        <span class="muted"><TimeRange from={from} to={to} /></span>
        <span class="spacer" />
        <SeverityLegend />
        <span class="buttons" role="group" aria-label="Move the time line">
          <button type="button" title="Earlier" aria-label="Earlier" onClick={() => pan(-0.5)}>←</button>
          <button type="button" title="Zoom in (+)" aria-label="Zoom in" onClick={() => zoom(0.5)}>+</button>
          <button type="button" title="Zoom out (−)" aria-label="Zoom out" onClick={() => zoom(2)}>−</button>
          <button type="button" title="Later" aria-label="Later" onClick={() => pan(0.5)}>→</button>
          <button type="button" title="Back to the whole period (0)" onClick={whole} disabled={!isZoomed()}>Whole</button>
        </span>
      </div>
    </section>
  );
}

function SeverityLegend() {
  return (
    <span class="legend" aria-hidden="true">
      {[21, 17, 13, 9, 0].map((number) => {
        const { name, letter, word } = severityOf(number);
        return (
          <span key={name}>
            <i class={`swatch severity-${name}`} /> {letter} {word.toLowerCase()}
          </span>
        );
      })}
    </span>
  );
}

function Tip({ of }: { of: { value: Hover | undefined } }) {
  const hover = of.value;
  if (!hover) return null;
  const style = { left: `${hover.x}px`, top: `${hover.y + 18}px` };
  const side = hover.x > 0.6 * window.innerWidth ? "tip-left" : "";
  if (!hover.entry) {
    return <div class={`tip ${side}`} style={style}>{hover.crowd}</div>;
  }
  const { entry } = hover;
  return (
    <div class={`tip ${side}`} style={style} title={exact(entry.first)}>
      <strong>
        {entry.severity.word} {entry.service}
      </strong>
      <div dir="auto" class="clamp-2">{entry.line}</div>
      <div class="muted">
        {dayAndClock(entry.first)}, {howLong(entry.last - entry.first)}, {entry.incident.anomalous_records} of {entry.incident.records} records
      </div>
    </div>
  );
}

function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const done: Record<string, () => void> = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": whole,
    ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2),
  };
  const act = done[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// Pointer and wheel: drag moves, two fingers and the wheel zoom, a click opens.
function handle(element: HTMLCanvasElement, picture: Picture, hover: { value: Hover | undefined }): () => void {
  const pointers = new Map<number, { x: number; y: number }>();
  let moved = 0;
  const where = (event: PointerEvent | WheelEvent | MouseEvent) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top, width: box.width };
  };
  const onDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, where(event));
    moved = 0;
  };
  const onMove = (event: PointerEvent) => {
    const now = where(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      const found = picture.at(now.x, now.y);
      hover.value = found;
      marked.value = found?.entry?.id ?? "";
      element.style.cursor = found ? "pointer" : "grab";
      return;
    }
    moved += Math.abs(now.x - before.x);
    if (moved < 4) return;
    if (!element.hasPointerCapture(event.pointerId)) element.setPointerCapture(event.pointerId);
    hover.value = undefined;
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    pointers.set(event.pointerId, now);
    const other = others[0];
    if (other) {
      const [was, is] = [Math.abs(before.x - other.x), Math.abs(now.x - other.x)];
      if (was > 8 && is > 8) zoom(was / is, (now.x + other.x) / 2 / now.width);
    } else pan((before.x - now.x) / now.width);
  };
  const onUp = (event: PointerEvent) => {
    pointers.delete(event.pointerId);
  };
  const onClick = (event: MouseEvent) => {
    if (moved >= 4) return;
    const at = where(event);
    const found = picture.at(at.x, at.y);
    if (found?.entry) go({ page: "incident", id: found.entry.id });
    else if (found) zoom(0.125, at.x / at.width);
  };
  const onLeave = () => {
    hover.value = undefined;
    marked.value = "";
  };
  const onWheel = (event: WheelEvent) => {
    const at = where(event);
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan(event.deltaX / at.width);
      return;
    }
    // Nothing is outside: the page scrolls.
    if (event.deltaY > 0 && !Number.isFinite(asked.peek().to) && elsewhere.peek() === 0) return;
    event.preventDefault();
    hover.value = undefined;
    zoom(Math.exp(Math.min(Math.max(event.deltaY, -120), 120) * 0.003), at.x / at.width);
  };
  element.addEventListener("pointerdown", onDown);
  element.addEventListener("pointermove", onMove);
  element.addEventListener("pointerup", onUp);
  element.addEventListener("pointercancel", onUp);
  element.addEventListener("pointerleave", onLeave);
  element.addEventListener("click", onClick);
  element.addEventListener("wheel", onWheel, { passive: false });
  // The element goes with the view, and its listeners with it.
  return () => pointers.clear();
}
