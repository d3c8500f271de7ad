import { emptyDraft, type PlanDraft, readSteps, type StepSource } from './plan-draft.ts';
import { type At, describe, fieldOf, isJsonObject, quote, readText, refuse } from './plan-reading.ts';
import { readCommand } from './read-step.ts';

/** Commands after the same number of barriers; `start` is the first of them, by its place among all commands. */
interface Segments {
  /** Per command, the first command of its segment. */
  readonly starts: Int32Array;
  /** Per command, the first command of the segment before. */
  readonly previousStarts: Int32Array;
}

/** Reads the flat dialect: a list of commands, each on the disk of the one it `builds_in`, with waits in between. */
export function readFlat(pipeline: At): PlanDraft {
  const items = fieldOf(pipeline.fields, 'steps');
  if (!Array.isArray(items)) {
    const what = items === null ? 'neither steps nor a graph' : `${describe(items)} as steps`;
    refuse(pipeline, 'invalid_ir', `has ${what}; give it an array of steps.`);
    return emptyDraft;
  }
  if (items.length > pipeline.reading.limits.steps) {
    refuse(pipeline, 'too_large', `has ${items.length} steps; at most ${pipeline.reading.limits.steps} are allowed.`);
    return emptyDraft;
  }
  const { commands, segments } = splitAtWaits(pipeline, items);
  const draft = readSteps(pipeline, commands);
  return draft === null ? emptyDraft : connect(pipeline, { ...draft, commands, segments });
}

function splitAtWaits(
  pipeline: At,
  items: readonly unknown[],
): { commands: readonly StepSource[]; segments: Segments } {
  const commands: StepSource[] = [];
  const starts = new Int32Array(items.length);
  const previousStarts = new Int32Array(items.length);
  let start = 0;
  let previousStart = 0;
  for (const [index, item] of items.entries()) {
    const fields = isJsonObject(item) ? item : {};
    const at = { reading: pipeline.reading, fields, step: { index, key: fieldOf(fields, 'key') } };
    const type = isJsonObject(item) ? readType(at) : notAnObject(at, item);
    if (pipeline.reading.rejection !== null) break;
    if (type === 'wait' && commands.length > start) {
      previousStart = start;
      start = commands.length;
    }
    if (type !== 'command') continue;
    starts[commands.length] = start;
    previousStarts[commands.length] = previousStart;
    commands.push({ at, command: readCommand(at), outerEnv: null });
  }
  return { commands, segments: { starts, previousStarts } };
}

function readType(at: At): 'command' | 'wait' | null {
  const type = fieldOf(at.fields, 'type');
  if (type === 'command' || type === 'wait') return type;
  if (type === null) refuse(at, 'invalid_ir', 'has no type; it must be "command" or "wait".');
  else
    refuse(
      at,
      'invalid_ir',
      `has the type ${typeof type === 'string' ? quote(type) : describe(type)}; it must be "command" or "wait".`,
    );
  return null;
}

function notAnObject(at: At, item: unknown): null {
  refuse(at, 'invalid_ir', `is ${describe(item)}; it must be an object with type, key and cmd.`);
  return null;
}

type Unconnected = Pick<PlanDraft, 'steps' | 'indexByKey' | 'defaultImage' | 'timeoutMs'> & {
  readonly commands: readonly StepSource[];
  readonly segments: Segments;
};

function connect(pipeline: At, draft: Unconnected): PlanDraft {
  const parents = readParents(draft);
  const firsts = firstPrerequisites(pipeline, draft.segments, parents);
  if (parents === null || firsts === null) return emptyDraft;
  const { from, to } = listEdges(firsts, draft.segments, parents);
  return { ...draft, parents, from, to };
}

/** Per command the one it builds in, or -1; null when a name leads nowhere. */
function readParents({ commands, indexByKey }: Unconnected): Int32Array | null {
  const parents = new Int32Array(commands.length).fill(-1);
  for (const [index, { at }] of commands.entries()) {
    const name = readText(at, 'builds_in', Number.POSITIVE_INFINITY);
    const parent = name === null ? -1 : indexByKey.get(name);
    if (parent === undefined)
      refuse(at, 'unknown_dependency', `builds in ${quote(name ?? '')}, which is no step; name one by its key.`);
    if (at.reading.rejection !== null) return null;
    parents[index] = parent ?? -1;
  }
  return parents;
}

/**
 * Per command, the first of the run of commands up to its barrier that it depends on. A wait holds back all that follow until
 * all before it passed, so that is the very first. Where this makes more edges than allowed, only the commands between the last two
 * waits are listed: they wait for the earlier ones themselves, so what starts when stays the same.
 */
function firstPrerequisites(
  pipeline: At,
  { starts, previousStarts }: Segments,
  parents: Int32Array | null,
): Int32Array | null {
  if (parents === null) return null;
  const { edges } = pipeline.reading.limits;
  const everyEarlier = new Int32Array(parents.length);
  if (countEdges(everyEarlier, starts, parents) <= edges) return everyEarlier;
  const count = countEdges(previousStarts, starts, parents);
  if (count <= edges) return previousStarts;
  refuse(
    pipeline,
    'too_large',
    `has ${count} dependencies across its waits; at most ${edges} are allowed. Put a step of its own between two waits, for all to meet in.`,
  );
  return null;
}

function countEdges(firsts: Int32Array, starts: Int32Array, parents: Int32Array): number {
  let count = 0;
  for (let index = 0; index < parents.length; index++) {
    count += (starts[index] ?? 0) - (firsts[index] ?? 0) + (parents[index] === -1 ? 0 : 1);
  }
  return count;
}

function listEdges(
  firsts: Int32Array,
  { starts }: Segments,
  parents: Int32Array,
): { from: Int32Array; to: Int32Array } {
  const count = countEdges(firsts, starts, parents);
  const from = new Int32Array(count);
  const to = new Int32Array(count);
  let next = 0;
  for (const [index, parent] of parents.entries()) {
    to.fill(index, next, next + (starts[index] ?? 0) - (firsts[index] ?? 0) + (parent === -1 ? 0 : 1));
    for (let before = firsts[index] ?? 0; before < (starts[index] ?? 0); before++) from[next++] = before;
    if (parent !== -1) from[next++] = parent;
  }
  return { from, to };
}
