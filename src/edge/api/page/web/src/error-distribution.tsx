// How well the model of what is usual could say again what it was given: for what was judged usual, and for what was anomalous.
//
// What enters: a histogram of each. What leaves: an SVG of two outlines, each in shares of its own total, since one is far larger. Promised: the numbers are
// there on hover and in a table for who does not see it. Absent: anything where a report was made without the autoencoder.
import { useSignal } from "@preact/signals";
import { count } from "./badges";
import type { ErrorDistribution } from "./model";

const HEIGHT = 220;
const PAD = { left: 44, right: 10, top: 10, bottom: 32 };

export function ErrorChart({ of }: { of: ErrorDistribution }) {
  const pointed = useSignal(-1);
  // Drawn as wide as it is seen, about, so that its labels can be read on a phone.
  const WIDTH = window.innerWidth < 760 ? 340 : 640;
  const bins = of.usual.length;
  const [least, most] = [of.edges[0] ?? 0, of.edges.at(-1) ?? 1];
  const totals = { usual: sum(of.usual) || 1, anomalous: sum(of.anomalous) || 1 };
  const share = (series: "usual" | "anomalous", index: number) => (of[series][index] ?? 0) / totals[series];
  const highest = Math.max(...of.usual.map((_, index) => Math.max(share("usual", index), share("anomalous", index))), 0.01);
  const x = (value: number) => PAD.left + ((value - least) / (most - least || 1)) * (WIDTH - PAD.left - PAD.right);
  const y = (value: number) => HEIGHT - PAD.bottom - (value / highest) * (HEIGHT - PAD.top - PAD.bottom);
  const steps = (series: "usual" | "anomalous") => {
    let path = `M${x(least)},${y(0)}`;
    for (let index = 0; index < bins; index++) {
      const at = y(share(series, index)).toFixed(1);
      path += `L${x(of.edges[index] ?? 0).toFixed(1)},${at}L${x(of.edges[index + 1] ?? 0).toFixed(1)},${at}`;
    }
    return `${path}L${x(most)},${y(0)}Z`;
  };
  const index = pointed.value;
  const words =
    index >= 0
      ? `Error ${digits(of.edges[index])} to ${digits(of.edges[index + 1])}: ${count(of.usual[index] ?? 0)} usual, ${count(of.anomalous[index] ?? 0)} anomalous ${of.of}`
      : `${count(sum(of.usual))} usual and ${count(sum(of.anomalous))} anomalous ${of.of}`;
  return (
    <section class="part" aria-labelledby="error-heading">
      <h2 id="error-heading">Reconstruction error</h2>
      <p class="muted">How far the model's repetition is from what was said: the further right, the less it has seen its like. Each outline is in shares of its own {of.of}.</p>
      <svg class="distribution" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={words} onMouseLeave={() => (pointed.value = -1)}>
        {[0, 0.5, 1].map((part) => (
          <g key={part}>
            <line class="grid" x1={PAD.left} x2={WIDTH - PAD.right} y1={y(part * highest)} y2={y(part * highest)} />
            <text class="tick" x={PAD.left - 6} y={y(part * highest) + 4} text-anchor="end">{Math.round(part * highest * 100)} %</text>
          </g>
        ))}
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <text key={part} class="tick" x={x(least + part * (most - least))} y={HEIGHT - PAD.bottom + 18} text-anchor={part === 0 ? "start" : part === 1 ? "end" : "middle"}>
            {digits(least + part * (most - least))}
          </text>
        ))}
        <path class="usual" d={steps("usual")} />
        <path class="anomalous" d={steps("anomalous")} />
        {of.threshold !== null && of.threshold >= least && of.threshold <= most && (
          <g>
            <line class="threshold" x1={x(of.threshold)} x2={x(of.threshold)} y1={PAD.top} y2={HEIGHT - PAD.bottom} />
            <text class="tick" x={x(of.threshold) + 5} y={PAD.top + 9}>threshold {digits(of.threshold)}</text>
          </g>
        )}
        {of.usual.map((_, at) => (
          <rect
            key={at}
            x={x(of.edges[at] ?? 0)}
            y={PAD.top}
            width={Math.max(x(of.edges[at + 1] ?? 0) - x(of.edges[at] ?? 0), 1)}
            height={HEIGHT - PAD.top - PAD.bottom}
            class={`catch ${at === index ? "pointed-at" : ""}`}
            onMouseEnter={() => (pointed.value = at)}
          />
        ))}
      </svg>
      <p class="legend">
        <span><i class="swatch usual" /> usual</span>
        <span><i class="swatch anomalous" /> anomalous</span>
      </p>
      <p class="pointed">{words}</p>
      <details class="numbers">
        <summary>The numbers</summary>
        <table class="plain">
          <thead><tr><th>Error from</th><th>to</th><th class="number">Usual</th><th class="number">Anomalous</th></tr></thead>
          <tbody>
            {of.usual.map((usual, at) => (
              <tr key={at}>
                <td>{digits(of.edges[at])}</td><td>{digits(of.edges[at + 1])}</td>
                <td class="number">{count(usual)}</td><td class="number">{count(of.anomalous[at] ?? 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </section>
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function digits(value: number | undefined): string {
  return value === undefined ? "" : String(Number(value.toPrecision(3)));
}
