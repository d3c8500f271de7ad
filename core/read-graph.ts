import { emptyDraft, type PlanDraft, readSteps, type StepSource } from './plan-draft.ts';
import { type At, describe, fieldOf, isJsonObject, type JsonObject, quote, refuse } from './plan-reading.ts';
import { readCommand } from './read-step.ts';

/** Reads both graph dialects: nodes, and edges between their indices. They differ in where a step keeps its command. */
export function readGraph(pipeline: At, graph: JsonObject): PlanDraft {
  const nodes = readList(pipeline, graph, { name: 'nodes', max: pipeline.reading.limits.steps });
  const edges = readList(pipeline, graph, { name: 'edges', max: pipeline.reading.limits.edges });
  checkShape(pipeline, graph);
  if (pipeline.reading.rejection !== null) return emptyDraft;
  const sources = nodes.map((node, index) => readNode(pipeline, node, index));
  const draft = readSteps(pipeline, sources);
  if (draft === null) return emptyDraft;
  return { ...draft, ...readEdges(pipeline, sources, edges) };
}

function readList(pipeline: At, graph: JsonObject, { name, max }: { name: string; max: number }): readonly unknown[] {
  const list = fieldOf(graph, name) ?? [];
  if (!Array.isArray(list)) {
    refuse(pipeline, 'invalid_ir', `has ${describe(list)} as graph.${name}; it must be an array.`);
    return [];
  }
  if (list.length > max) {
    refuse(pipeline, 'too_large', `has ${list.length} graph.${name}; at most ${max} are allowed.`);
  }
  return list;
}

/** Indices of a graph with holes count nodes that are not there, so such edges cannot be followed. */
function checkShape(pipeline: At, graph: JsonObject): void {
  const holes = fieldOf(graph, 'node_holes') ?? [];
  if (!Array.isArray(holes) || holes.length > 0) {
    refuse(pipeline, 'invalid_ir', 'has graph.node_holes; number its nodes without gaps and leave the list empty.');
  }
  if ((fieldOf(graph, 'edge_property') ?? 'directed') !== 'directed') {
    refuse(pipeline, 'invalid_ir', 'has a graph.edge_property other than "directed"; its edges need a direction.');
  }
}

function readNode({ reading }: At, node: unknown, index: number): StepSource {
  const step = isJsonObject(node) ? fieldOf(node, 'step') : null;
  const fields = isJsonObject(step) ? step : {};
  const at = { reading, fields, step: { index, key: fieldOf(fields, 'key') } };
  if (!isJsonObject(node)) refuse(at, 'invalid_ir', `is ${describe(node)}; it must be an object with a step.`);
  else if (!isJsonObject(step))
    refuse(at, 'invalid_ir', `has ${describe(step)} as step; it must be an object with key and cmd.`);
  const outerEnv = isJsonObject(node) ? { reading, fields: node, step: at.step } : null;
  return { at, command: readNodeCommand(at), outerEnv };
}

/** The newest dialect has `eval` where the other has `cmd`. */
function readNodeCommand(at: At): string | null {
  const body = fieldOf(at.fields, 'eval');
  if (body === null) return readCommand(at);
  if (fieldOf(at.fields, 'cmd') !== null) refuse(at, 'invalid_ir', 'has both cmd and eval; keep one of them.');
  if (!isJsonObject(body)) {
    refuse(at, 'invalid_ir', `has ${describe(body)} as eval; it must be an object with type and cmd.`);
    return null;
  }
  const type = fieldOf(body, 'type');
  if (type === 'cmd') return readCommand({ ...at, fields: body });
  if (type === 'dynamic') {
    refuse(at, 'invalid_ir', 'is a dynamic target, which cannot run yet; write its steps into the pipeline instead.');
  } else {
    const what = typeof type === 'string' ? quote(type) : describe(type);
    refuse(at, 'invalid_ir', `has ${what} as eval.type; it must be "cmd" or "dynamic".`);
  }
  return null;
}

function readEdges(
  pipeline: At,
  sources: readonly StepSource[],
  edges: readonly unknown[],
): Pick<PlanDraft, 'parents' | 'from' | 'to'> {
  const parents = new Int32Array(sources.length).fill(-1);
  const from = new Int32Array(edges.length);
  const to = new Int32Array(edges.length);
  for (const [index, edge] of edges.entries()) {
    const ends = readEdge(pipeline, edge, { index, count: sources.length });
    if (ends === null) break;
    from[index] = ends.from;
    to[index] = ends.to;
    const at = sources[ends.to]?.at ?? pipeline;
    if (ends.from === ends.to) refuse(at, 'invalid_ir', `depends on itself (edge ${index}); take the edge out.`);
    if (ends.isParent) setParent(at, parents, ends);
    if (pipeline.reading.rejection !== null) break;
  }
  return { parents, from, to };
}

interface Edge {
  readonly from: number;
  readonly to: number;
  readonly isParent: boolean;
}

function setParent(at: At, parents: Int32Array, { from, to }: Edge): void {
  const known = parents[to] ?? -1;
  if (known !== -1 && known !== from) {
    refuse(
      at,
      'invalid_ir',
      `builds in both node ${known} and node ${from}; a disk has one parent, make the other edge depends_on.`,
    );
  }
  parents[to] = from;
}

function readEdge(pipeline: At, edge: unknown, { index, count }: { index: number; count: number }): Edge | null {
  if (!Array.isArray(edge) || edge.length !== 3) {
    refuse(pipeline, 'invalid_ir', `has ${describe(edge)} as edge ${index}; it must be [from, to, kind].`);
    return null;
  }
  const [from, to, kind]: unknown[] = edge;
  if (!isIndex(from, count) || !isIndex(to, count)) {
    refuse(
      pipeline,
      'invalid_ir',
      `has an edge ${index} that leads outside of its nodes, which are 0 to ${count - 1}.`,
    );
    return null;
  }
  if (kind !== 'builds_in' && kind !== 'depends_on') {
    const what = typeof kind === 'string' ? quote(kind) : describe(kind);
    refuse(pipeline, 'invalid_ir', `has ${what} as kind of edge ${index}; it must be "builds_in" or "depends_on".`);
    return null;
  }
  return { from, to, isParent: kind === 'builds_in' };
}

function isIndex(value: unknown, count: number): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) < count;
}
