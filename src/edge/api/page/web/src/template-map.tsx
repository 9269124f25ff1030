// Templates in two dimensions: what lies close means something alike; colour and shape say of which incident it is.
//
// What enters: places by PCA, texts, incidents. What leaves: a canvas, and the template that pointer or arrow keys are on, in words. Promised: marks are those of
// the table; anomalous ones are drawn over usual ones; keys reach every template. Absent: more dimensions.
import { effect, useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { go } from "./address";
import { count } from "./badges";
import { all, textOr } from "./incidents";
import { Mark, markFor, markOf, outline } from "./marks";
import type { MappedTemplate, TemplateMap } from "./model";
import { colour, isDark } from "./theme";

const NEAR_PX = 14;
const MARGIN = 16;
const IN_LEGEND = 12;

interface Spot {
  template: MappedTemplate;
  x: number;
  y: number;
  r: number;
}

function spotsOf({ templates }: TemplateMap, width: number, height: number): Spot[] {
  const xs = templates.map((one) => one.x);
  const ys = templates.map((one) => one.y);
  const [left, right] = [xs.reduce((a, b) => Math.min(a, b), Infinity), xs.reduce((a, b) => Math.max(a, b), -Infinity)];
  const [low, high] = [ys.reduce((a, b) => Math.min(a, b), Infinity), ys.reduce((a, b) => Math.max(a, b), -Infinity)];
  return templates
    .map((template) => ({
      template,
      x: MARGIN + ((template.x - left) / (right - left || 1)) * (width - 2 * MARGIN),
      y: height - MARGIN - ((template.y - low) / (high - low || 1)) * (height - 2 * MARGIN),
      r: 2.6 + Math.min(Math.log10(template.records + 1), 4) * 0.9,
    }))
    .sort((a, b) => rank(a.template) - rank(b.template));
}

// Usual ones lie beneath, those of an incident on top.
function rank(template: MappedTemplate): number {
  if (template.incident_id) return markFor(template.incident_id).shape === "dot" ? 2 : 3;
  return template.anomalous_records > 0 ? 1 : 0;
}

export function MapOfTemplates({ of }: { of: TemplateMap }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const at = useSignal(-1);
  const spots = useRef<Spot[]>([]);
  // Before it is painted: what is printed is not painted first.
  useLayoutEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return undefined;
    let sizeOfSpots = 0;
    const paint = () => {
      const [width, height] = [element.clientWidth, element.clientHeight];
      const ratio = devicePixelRatio || 1;
      if (sizeOfSpots !== width) {
        spots.current = spotsOf(of, width, height);
        sizeOfSpots = width;
      }
      element.width = Math.round(width * ratio);
      element.height = Math.round(height * ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      spots.current.forEach((spot, index) => paintSpot(context, spot, index === at.peek()));
      const pointed = spots.current[at.peek()];
      if (pointed) paintSpot(context, pointed, true);
    };
    const stop = effect(() => {
      void [isDark(), at.value, markOf.value];
      paint();
    });
    const resized = new ResizeObserver(paint);
    resized.observe(element);
    return () => {
      stop();
      resized.disconnect();
    };
  }, [of]);

  const nearest = (event: MouseEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let found = -1;
    let apart = NEAR_PX;
    spots.current.forEach((spot, index) => {
      const distance = Math.hypot(spot.x - x, spot.y - y) - (rank(spot.template) > 0 ? 2 : 0);
      if (distance <= apart) [apart, found] = [distance, index];
    });
    at.value = found;
  };
  const open = () => {
    const id = spots.current[at.peek()]?.template.incident_id;
    if (id) go({ page: "incident", id });
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Enter") return open();
    const by = event.key === "ArrowRight" || event.key === "ArrowDown" ? -1 : event.key === "ArrowLeft" || event.key === "ArrowUp" ? 1 : 0;
    if (!by) return;
    event.preventDefault();
    const all = spots.current.length;
    // From those on top, which are of incidents, down.
    at.value = at.peek() < 0 ? all - 1 : (at.peek() + by + all) % all;
  };
  const pointed = spots.current[at.value]?.template;
  const [first = 0, second = 0] = of.explained;
  return (
    <section class="part" aria-labelledby="map-heading">
      <h2 id="map-heading">Map of templates</h2>
      <p class="muted">
        {count(of.templates.length)} templates, alike in meaning where they lie close; {Math.round((first + second) * 100)} % of what tells them apart is in these two
        dimensions. Coloured ones are of an incident.
      </p>
      <div class="map" role="group" tabIndex={0} aria-label="Map of templates: arrow keys step through them, Enter opens the incident" onKeyDown={onKey}>
        <canvas ref={canvas} aria-hidden="true" onMouseMove={nearest} onMouseLeave={() => (at.value = -1)} onClick={open} />
      </div>
      <p class="pointed" role="status" dir="auto">
        {pointed
          ? `${pointed.service}: ${textOr(pointed.text, pointed.key).slice(0, 300)} (${count(pointed.records)} records, ${count(pointed.anomalous_records)} anomalous${pointed.incident_id ? `, incident ${pointed.incident_id}` : ""})`
          : " "}
      </p>
      <MapLegend of={of} />
    </section>
  );
}

function paintSpot(context: CanvasRenderingContext2D, spot: Spot, pointed: boolean): void {
  const { template } = spot;
  const mark = template.incident_id ? markFor(template.incident_id) : undefined;
  const r = (mark ? spot.r + 1.4 : spot.r) + (pointed ? 2.5 : 0);
  context.save();
  context.translate(spot.x, spot.y);
  const path = new Path2D(outline(mark?.shape ?? "circle", r));
  const paint = mark ? colour(mark.colour) : template.anomalous_records > 0 ? colour("ink") : colour("dot");
  context.globalAlpha = mark || pointed ? 0.95 : 0.55;
  context.fillStyle = paint;
  context.fill(path);
  context.globalAlpha = 1;
  context.strokeStyle = pointed ? colour("ink") : colour("surface");
  context.lineWidth = pointed ? 2 : 1;
  context.stroke(path);
  context.restore();
}

function MapLegend({ of }: { of: TemplateMap }) {
  const here = new Set(of.templates.map((one) => one.incident_id));
  const marked = [...markOf.value.keys()].filter((id) => here.has(id)).slice(0, IN_LEGEND);
  const entries = new Map(all.value.map((entry) => [entry.id, entry]));
  if (marked.length === 0) return null;
  return (
    <ul class="map-legend">
      {marked.map((id) => (
        <li key={id}>
          <Mark id={id} />
          <a href={`#/incident/${encodeURIComponent(id)}`} class="clamp-1"><bdi>{entries.get(id)?.line ?? id}</bdi></a>
        </li>
      ))}
      <li class="muted"><Mark id="" /> of another incident</li>
    </ul>
  );
}
