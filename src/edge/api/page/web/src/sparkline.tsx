// Records over time, small: bars without axes, for a row of a table or the head of an incident.
//
// What enters: records in spans of equal length. What leaves: an SVG. Promised: what it shows is said in words as well; a span with
// one record can be seen beside one with thousands. Absent: axes and hovering (the words have the numbers).
import { count } from "./badges";
import { howLong } from "./times";

interface Bars {
  records: readonly number[];
  spanMs: number;
  // How many spans there are in all; the others are empty.
  spans?: number;
  width?: number;
  height?: number;
  class?: string;
}

export function Sparkline({ records, spanMs, spans = records.length, width = 120, height = 18, class: name = "" }: Bars) {
  const all = Math.max(spans, records.length, 1);
  const most = Math.max(...records, 1);
  const step = width / all;
  const bar = Math.max(step * 0.86, 0.8);
  const words = `At most ${count(most)} in ${howLong(spanMs)}`;
  const path = records
    .map((value, index) => {
      if (value <= 0) return "";
      const high = Math.max(Math.sqrt(value / most) * height, 1.5);
      return `M${(index * step).toFixed(1)},${height}v${-high.toFixed(1)}h${bar.toFixed(1)}v${high.toFixed(1)}z`;
    })
    .join("");
  return (
    <svg class={`sparkline ${name}`} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={words}>
      <title>{words}</title>
      <path class="sparkline-ground" d={`M0,${height - 0.25}H${width}`} />
      <path d={path} />
    </svg>
  );
}
