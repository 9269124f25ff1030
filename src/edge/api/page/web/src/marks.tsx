// Which colour and shape stands for which incident: the same in the table and on the map of templates.
//
// What enters: the incidents of a report. What leaves: a mark for each of the largest, a small dot for all others. Promised: two of the
// largest never share a mark; marks stay the same whatever is filtered. Absent: marks where there is no map to compare with.
import { computed } from "@preact/signals";
import { all } from "./incidents";
import { report } from "./report";
import { colour } from "./theme";

export const SHAPES = ["circle", "square", "triangle", "diamond"] as const;
export type Shape = (typeof SHAPES)[number] | "dot";
const COLOURS = 8;

export interface MarkOf {
  // A colour of theme.css.
  colour: string;
  shape: Shape;
}

const OTHER: MarkOf = { colour: "muted", shape: "dot" };

export const marksAreUsed = computed(() => (report.value?.map?.templates.length ?? 0) > 0);

// Largest first.
export const markOf = computed<Map<string, MarkOf>>(() => {
  const marks = new Map<string, MarkOf>();
  if (!marksAreUsed.value) return marks;
  const largest = [...all.value].sort((a, b) => b.incident.anomalous_records - a.incident.anomalous_records || a.first - b.first);
  largest.slice(0, COLOURS * SHAPES.length).forEach(({ id }, index) => {
    marks.set(id, { colour: `series-${index % COLOURS}`, shape: SHAPES[Math.floor(index / COLOURS)] ?? "dot" });
  });
  return marks;
});

export function markFor(id: string): MarkOf {
  return markOf.value.get(id) ?? OTHER;
}

// The outline of a shape of that radius around the origin, as an SVG path, which a canvas draws as well.
export function outline(shape: Shape, r: number): string {
  switch (shape) {
    case "square":
      return `M${-r * 0.9},${-r * 0.9}H${r * 0.9}V${r * 0.9}H${-r * 0.9}Z`;
    case "triangle":
      return `M0,${-r * 1.15}L${r * 1.05},${r * 0.8}H${-r * 1.05}Z`;
    case "diamond":
      return `M0,${-r * 1.25}L${r * 1.25},0L0,${r * 1.25}L${-r * 1.25},0Z`;
    case "dot":
      return outline("circle", r * 0.6);
    case "circle":
      return `M${-r},0A${r},${r} 0 1 1 ${r},0A${r},${r} 0 1 1 ${-r},0Z`;
  }
}

export function Mark({ id }: { id: string }) {
  const mark = markFor(id);
  const paint = colour(mark.colour);
  return (
    <svg class="mark" width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true">
      <path d={outline(mark.shape, 4)} fill={paint} />
    </svg>
  );
}
