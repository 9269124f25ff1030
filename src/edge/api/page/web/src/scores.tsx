// Anomaly scores of a report over time, with the threshold above which a record counts as anomalous.
//
// What enters: per span the median, the 99th percentile and the maximum; the highest scores one by one. What leaves: a chart by uPlot, and what the
// pointer is on, in words. Promised: no line is drawn through spans without records; dragging zooms, a double click shows all. Absent: single records that
// are not among the highest.
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { go } from "./address";
import { count } from "./badges";
import { textOr } from "./incidents";
import type { Peak, Scores } from "./model";
import { colour, isDark } from "./theme";
import { dayAndClock, read, zone } from "./times";

const HEIGHT = 260;
const NEAR_PX = 24;
// Wider than this many points, single dots would be a carpet.
const MOST_DOTS = 400;

export function ScoresChart({ of }: { of: Scores }) {
  const place = useRef<HTMLDivElement>(null);
  const words = useSignal("");
  const peak = useSignal<Peak | undefined>(undefined);
  const dark = isDark();
  const shownZone = zone.value;
  // Before it is painted: what is printed is not painted first.
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const start = read(of.start) / 1000;
    const times = of.max.map((_, index) => start + (index + 0.5) * of.span_seconds);
    const threshold = times.map((_, index) => (Array.isArray(of.threshold) ? (of.threshold[index] ?? null) : of.threshold));
    const peaks = (of.peaks ?? []).map((one) => ({ one, x: read(one.time) / 1000 }));
    const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line-strong"), width: 1 } };
    const scores = (value: number | null) => (value === null ? "–" : value.toFixed(2));
    const chart: uPlot = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        ...(shownZone === "utc" ? { tzDate: (at: number) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC") } : {}),
        legend: { show: false },
        cursor: { points: { show: false }, drag: { x: true, y: false } },
        scales: { y: { range: (_, least, most) => [Math.min(0, least ?? 0), Math.max(1, most ?? 1)] } },
        axes: [
          { ...axis, values: ticksOfTime, size: 42 },
          { ...axis, size: 44 },
        ],
        series: [
          {},
          { stroke: colour("series-score-max"), width: 1.25, points: { show: times.length <= MOST_DOTS, size: 4, fill: colour("series-score-max") }, label: "max" },
          { stroke: colour("series-score-p99"), width: 1, points: { show: false }, label: "p99" },
          { stroke: colour("series-score-median"), width: 1.25, points: { show: times.length <= MOST_DOTS, size: 3, fill: colour("series-score-median") }, label: "median" },
          { stroke: colour("severity-error-ink"), width: 1.25, dash: [6, 4], points: { show: false }, label: "threshold" },
        ],
        hooks: {
          setCursor: [
            (u) => {
              const { idx, left = -1, top = -1 } = u.cursor;
              let near: Peak | undefined;
              let nearest = NEAR_PX;
              if (left >= 0) {
                for (const { one, x } of peaks) {
                  const apart = Math.hypot(u.valToPos(x, "x") - left, u.valToPos(one.score, "y") - top);
                  if (apart < nearest) [nearest, near] = [apart, one];
                }
              }
              peak.value = near;
              words.value =
                idx === null || idx === undefined || left < 0
                  ? ""
                  : `${dayAndClock((times[idx] ?? NaN) * 1000)}: ${count(of.records[idx] ?? 0)} records, ${count(of.anomalous[idx] ?? 0)} anomalous; median ${scores(of.median[idx] ?? null)}, 99 % below ${scores(of.p99[idx] ?? null)}, highest ${scores(of.max[idx] ?? null)}`;
            },
          ],
          drawSeries: [
            (u, series) => {
              if (series !== 1) return;
              const { ctx } = u;
              ctx.save();
              ctx.fillStyle = colour("severity-error");
              const ratio = devicePixelRatio;
              for (const { one, x } of peaks) {
                const [px, py] = [u.valToPos(x, "x", true), u.valToPos(one.score, "y", true)];
                if (px < u.bbox.left || px > u.bbox.left + u.bbox.width) continue;
                ctx.beginPath();
                ctx.arc(px, py, 2.4 * ratio, 0, 2 * Math.PI);
                ctx.fill();
              }
              ctx.restore();
            },
          ],
        },
      },
      [times, of.max, of.p99, of.median, threshold],
      element,
    );
    const onClick = () => {
      if (peak.peek()?.incident_id) go({ page: "incident", id: peak.peek()?.incident_id ?? "" });
    };
    chart.over.addEventListener("click", onClick);
    const resized = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      chart.destroy();
    };
  }, [of, dark, shownZone]);
  const threshold = typeof of.threshold === "number" ? ` Above ${of.threshold} it counts as anomalous.` : "";
  return (
    <section class="part" aria-labelledby="scores-heading">
      <h2 id="scores-heading">Anomaly scores over time</h2>
      <p class="muted">
        How probable it is that a record is an anomaly: the highest, the 99th percentile and the median of each stretch.{threshold} Drag to zoom,
        double-click for all.
      </p>
      <div ref={place} class="chart" role="img" aria-label={summary(of)} />
      <p class="legend">
        <span><i class="line-swatch score-max" /> highest</span>
        <span><i class="line-swatch score-p99" /> 99th percentile</span>
        <span><i class="line-swatch score-median" /> median</span>
        {of.threshold !== null && <span><i class="line-swatch score-threshold" /> threshold</span>}
        {(of.peaks?.length ?? 0) > 0 && <span><i class="swatch severity-error round" /> highest single records</span>}
      </p>
      <p class="pointed" dir="auto">
        {peak.value ? `${peak.value.score.toFixed(3)}  ${peak.value.service}: ${textOr(peak.value.text, peak.value.template_key).slice(0, 300)}` : words.value || " "}
      </p>
    </section>
  );
}

function ticksOfTime(_: uPlot, at: number[]): string[] {
  let before = "";
  return at.map((second) => {
    const [date = "", time = ""] = dayAndClock(second * 1000).split(" ");
    const isNew = date !== before;
    before = date;
    if (time === "00:00:00") return date.slice(5);
    const short = time.endsWith(":00") ? time.slice(0, 5) : time;
    return isNew ? `${short}\n${date}` : short;
  });
}

function summary(of: Scores): string {
  const highest = of.max.reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
  const anomalous = of.anomalous.reduce((sum, value) => sum + value, 0);
  return `Scores of ${of.max.length} stretches; highest ${highest.toFixed(2)}; ${anomalous} records are anomalous.`;
}
