// Why the parts of an incident belong together: in words, and as a small graph of its templates.
//
// What enters: an incident. What leaves: a sentence, a drawing with a legend, and, on hover or focus, what an edge or node is. Promised:
// all that the graph says stands in words too (the sentence, and a line for each template in its table); it stands still.
// Absent: episodes one by one (`harbinger analyze --graph` has them).
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { plural } from "./badges";
import { graphOf, type Edge, type Graph, type Node } from "./evidence-layout";
import { templatesOf, textOr } from "./incidents";
import type { Incident, Link, TemplateCount } from "./model";

const TIES: Record<string, string> = {
  meaning: "similar meaning",
  shared_id: "a shared id",
  time: "closeness in time",
  service: "the same service",
  companion: "usually coming together",
};
// The same between one template and another.
const TIED: Record<string, string> = {
  meaning: "similar in meaning to",
  shared_id: "shares an id with",
  time: "close in time to",
  service: "of the same service as",
  companion: "usually comes with",
};
// How the line of an edge is dashed, so that kinds are told apart without colour.
const DASHES: Record<string, string> = { meaning: "", shared_id: "1 4", time: "7 5", service: "12 4", companion: "10 3 2 3" };
const MOST = 32;

function tieWords(tie: string): string {
  return TIES[tie] ?? tie;
}

function tiedWords(tie: string): string {
  return TIED[tie] ?? `tied by ${tie} to`;
}

// Log-odds as people read them.
export function strength(weight: number): string {
  return weight >= 6 ? "very strong" : weight >= 3 ? "strong" : weight >= 1 ? "fair" : "weak";
}

// What a template was tied to, for its row in the table.
export function linkWords(link: Link, templates: readonly TemplateCount[]): string {
  const row = templates.findIndex((template) => template.template_key === link.template_key) + 1;
  const to = row > 0 ? `template ${row}` : `a template of ${link.service || "another service"}`;
  return `${tiedWords(link.tie)} ${to} (${strength(link.weight)})`;
}

export function EvidenceWords({ of }: { of: Incident }) {
  const ties = of.ties.filter(({ episodes }) => episodes > 0);
  if (ties.length === 0) return <p class="muted">One episode: there is nothing that had to be tied to it.</p>;
  const total = ties.reduce((sum, { episodes }) => sum + episodes, 0);
  const parts = ties.map(({ tie, episodes }) => `${episodes} by ${tieWords(tie)}`);
  const last = parts.pop();
  return (
    <p>
      {plural(total, "episode")} joined: {parts.length > 0 ? `${parts.join(", ")} and ${last}` : last}.
    </p>
  );
}

export function EvidenceGraph({ of }: { of: Incident }) {
  const templates = templatesOf(of).slice(0, MOST);
  // What it looks like depends on templates and links only, not on counts that grow.
  const shape = templates.map((one) => `${one.template_key}${one.link?.template_key ?? ""}`).join();
  const width = 440;
  const height = templates.length > 12 ? 320 : templates.length > 4 ? 240 : 150;
  const graph = useMemo(() => graphOf(templates, width, height), [shape]);
  const pointed = useSignal("");
  if (graph.edges.length === 0) return null;
  const kinds = [...new Set(graph.edges.map(({ tie }) => tie))];
  return (
    <figure class="graph">
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${graph.nodes.length} templates and what ties them; the table of templates says the same`}>
        {graph.edges.map((edge) => (
          <EdgeLine key={`${edge.from.row}-${edge.to.row}`} edge={edge} point={(words) => (pointed.value = words)} />
        ))}
        {graph.nodes.map((node) => (
          <NodeCircle key={node.row} node={node} point={(words) => (pointed.value = words)} />
        ))}
      </svg>
      <figcaption>
        <span class="legend">
          {kinds.map((tie) => (
            <span key={tie}>
              <svg width="34" height="8" aria-hidden="true">
                <line x1="1" y1="4" x2="33" y2="4" class="edge" stroke-width="2" stroke-dasharray={DASHES[tie] ?? ""} />
              </svg>{" "}
              {tieWords(tie)}
            </span>
          ))}
          <span>
            <i class="swatch node-opening" /> began it
          </span>
          {graph.nodes.some(({ template }) => template.anomalous_records === 0) && (
            <span>
              <i class="swatch node-context" /> context
            </span>
          )}
        </span>
        <span class="pointed" dir="auto">
          {pointed.value || about(graph)}
        </span>
      </figcaption>
    </figure>
  );
}

function about({ elsewhere, alone }: Graph): string {
  const words = ["Numbers are rows of the table of templates."];
  if (elsewhere > 0) words.push(`${plural(elsewhere, "link")} to templates not listed.`);
  if (alone > 0) words.push(`Not drawn: ${plural(alone, "template")} that nothing ties to one of these, context most of all.`);
  return words.join(" ");
}

function EdgeLine({ edge, point }: { edge: Edge; point: (words: string) => void }) {
  const { from, to, tie, weight } = edge;
  const words = `${from.row} is tied to ${to.row}, ${strength(weight)} (log-odds ${weight.toFixed(1)}): ${tiedWords(tie)} it`;
  const ends = { x1: from.x, y1: from.y, x2: to.x, y2: to.y };
  return (
    <g onMouseEnter={() => point(words)} onMouseLeave={() => point("")}>
      <title>{words}</title>
      <line {...ends} stroke="transparent" stroke-width="12" />
      <line {...ends} class="edge" stroke-width={1 + Math.min(Math.max(weight, 0), 9) * 0.33} stroke-dasharray={DASHES[tie] ?? ""} />
    </g>
  );
}

function NodeCircle({ node, point }: { node: Node; point: (words: string) => void }) {
  const { template } = node;
  const words = `${node.row}: ${template.service ? `${template.service}: ` : ""}${textOr(template.text, template.template_key).slice(0, 240)}`;
  const kind = template.anomalous_records === 0 ? "node-context" : node.isOpening ? "node-opening" : "node-joined";
  return (
    <g class={`node ${kind}`} onMouseEnter={() => point(words)} onMouseLeave={() => point("")}>
      <title>{words}</title>
      {node.isOpening && <circle cx={node.x} cy={node.y} r={node.radius + 3} class="node-ring" />}
      <circle cx={node.x} cy={node.y} r={node.radius} />
      <text x={node.x} y={node.y} dy="0.35em">{node.row}</text>
    </g>
  );
}
