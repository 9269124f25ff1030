// Where the templates of an incident stand in the small graph of what ties them together.
//
// What enters: templates with their links. What leaves: nodes with places, and edges between them, within a box. Promised: the same incident
// always looks the same (d3-force draws its randomness from a fixed seed, and all its steps are done before anything is drawn). Absent: motion.
import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY, type SimulationNodeDatum } from "d3-force";
import type { TemplateCount } from "./model";

export interface Node extends SimulationNodeDatum {
  // Of its row in the table of templates, from 1.
  row: number;
  template: TemplateCount;
  radius: number;
  // Opened the incident.
  isOpening: boolean;
  x: number;
  y: number;
}

export interface Edge {
  from: Node;
  to: Node;
  tie: string;
  weight: number;
}

export interface Graph {
  nodes: Node[];
  edges: Edge[];
  // Links to templates that are not listed.
  elsewhere: number;
  // Templates that nothing ties to another: context.
  alone: number;
}

const STEPS = 320;

export function graphOf(templates: readonly TemplateCount[], width: number, height: number): Graph {
  const all: Node[] = templates.map((template, index) => ({
    row: index + 1,
    template,
    radius: 9 + Math.min(Math.log10(template.records + 1) * 3.2, 11),
    isOpening: template.anomalous_records > 0 && !template.link,
    x: NaN,
    y: NaN,
  }));
  const edges: Edge[] = [];
  let elsewhere = 0;
  for (const from of all) {
    const { link } = from.template;
    if (!link) continue;
    const named = all.filter((node) => node.template.template_key === link.template_key);
    const to = named.find((node) => node.template.service === link.service) ?? named[0];
    if (!to) elsewhere++;
    else if (to !== from) edges.push({ from, to, tie: link.tie, weight: link.weight });
  }
  const tied = new Set(edges.flatMap(({ from, to }) => [from, to]));
  const nodes = all.filter((node) => tied.has(node));
  // Without places d3-force gives them its own, the same each time.
  for (const node of nodes) Object.assign(node, { x: undefined, y: undefined });
  const simulation = forceSimulation(nodes)
    .force("charge", forceManyBody().strength(-130).distanceMax(260))
    .force("link", forceLink(edges.map(({ from, to }) => ({ source: from, target: to }))).distance(58).strength(0.7))
    .force("collide", forceCollide<Node>((node) => node.radius + 7))
    .force("x", forceX(0).strength(0.06))
    .force("y", forceY(0).strength(0.06 * (width / height)))
    .stop();
  simulation.tick(STEPS);
  fit(nodes, width, height);
  return { nodes, edges, elsewhere, alone: all.length - nodes.length };
}

// Moves and scales the places so that all circles lie in the box.
function fit(nodes: Node[], width: number, height: number): void {
  const margin = 24;
  const [left, right] = [Math.min(...nodes.map((node) => node.x)), Math.max(...nodes.map((node) => node.x))];
  const [top, bottom] = [Math.min(...nodes.map((node) => node.y)), Math.max(...nodes.map((node) => node.y))];
  const scale = Math.min((width - 2 * margin) / Math.max(right - left, 1), (height - 2 * margin) / Math.max(bottom - top, 1), 1.6);
  for (const node of nodes) {
    node.x = width / 2 + (node.x - (left + right) / 2) * scale;
    node.y = height / 2 + (node.y - (top + bottom) / 2) * scale;
  }
}
