/** Edges from prerequisite to dependent, as indices below `count`; repeats are fine. */
export interface Edges {
  readonly count: number;
  readonly from: Int32Array;
  readonly to: Int32Array;
}

export type Ordered =
  /** `order`: every index once, prerequisites first. `prerequisites`: per index, without repeats, in that order. */
  | { readonly ok: true; readonly order: Int32Array; readonly prerequisites: readonly (readonly number[])[] }
  /** Each depends on the next, the last on the first. */
  | { readonly ok: false; readonly cycle: readonly number[] };

/** Orders a graph by index, moving what others need up to the first of them. Linear in nodes and edges, without recursion. */
export function orderSteps({ count, from, to }: Edges): Ordered {
  const incoming = group(count, { by: to, values: from });
  const order = new Int32Array(count);
  const visit: Visit = { incoming, order, done: 0, rank: new Int32Array(count).fill(unseen), path: [] };
  for (let root = 0; root < count; root++) {
    const cycle = visitFrom(root, visit);
    if (cycle !== null) return { ok: false, cycle };
  }
  return { ok: true, order, prerequisites: listPrerequisites(order, group(count, { by: from, values: to })) };
}

/** Values grouped by a number: those of group `i` are `values[starts[i]]` up to `values[starts[i + 1]]`. */
interface Groups {
  readonly starts: Int32Array;
  readonly values: Int32Array;
}

interface Visit {
  readonly incoming: Groups;
  readonly order: Int32Array;
  done: number;
  /** Per index its place in `order`, or one of the two marks. */
  readonly rank: Int32Array;
  /** The indices being visited, each needed by the one before, with the next incoming edge to look at. */
  readonly path: { readonly index: number; next: number }[];
}

const unseen = -1;
const onPath = -2;

function visitFrom(root: number, visit: Visit): readonly number[] | null {
  const { path, rank, incoming } = visit;
  if (rank[root] === unseen) enter(root, visit);
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    if (top.next === incoming.starts[top.index + 1]) {
      leave(top.index, visit);
      continue;
    }
    const prerequisite = incoming.values[top.next++] ?? 0;
    if (rank[prerequisite] === onPath) return cycleFrom(prerequisite, visit);
    if (rank[prerequisite] === unseen) enter(prerequisite, visit);
  }
  return null;
}

function enter(index: number, { path, rank, incoming }: Visit): void {
  rank[index] = onPath;
  path.push({ index, next: incoming.starts[index] ?? 0 });
}

function leave(index: number, visit: Visit): void {
  visit.path.pop();
  visit.order[visit.done] = index;
  visit.rank[index] = visit.done++;
}

function cycleFrom(index: number, { path }: Visit): readonly number[] {
  return path.slice(path.findIndex((entry) => entry.index === index)).map((entry) => entry.index);
}

function group(count: number, { by, values }: { readonly by: Int32Array; readonly values: Int32Array }): Groups {
  const starts = new Int32Array(count + 1);
  for (let edge = 0; edge < by.length; edge++) {
    const after = (by[edge] ?? 0) + 1;
    starts[after] = (starts[after] ?? 0) + 1;
  }
  for (let i = 0; i < count; i++) starts[i + 1] = (starts[i + 1] ?? 0) + (starts[i] ?? 0);
  const free = starts.slice();
  const grouped = new Int32Array(values.length);
  for (let edge = 0; edge < by.length; edge++) {
    const key = by[edge] ?? 0;
    const place = free[key] ?? 0;
    free[key] = place + 1;
    grouped[place] = values[edge] ?? 0;
  }
  return { starts, values: grouped };
}

/** Handing each index to its dependents in order gives every list sorted, with repeats side by side. */
function listPrerequisites(order: Int32Array, outgoing: Groups): readonly (readonly number[])[] {
  const prerequisites: number[][] = Array.from(order, () => []);
  for (const index of order) {
    for (let edge = outgoing.starts[index] ?? 0; edge < (outgoing.starts[index + 1] ?? 0); edge++) {
      const list = prerequisites[outgoing.values[edge] ?? 0];
      if (list !== undefined && list.at(-1) !== index) list.push(index);
    }
  }
  return prerequisites;
}
