import { describeStep, Step } from './step.ts';

/** What a pipeline lists: a step, a list of them, or a target that makes them. */
export type Leaf = Step | readonly Leaf[] | (() => Leaf);

/** A command of the pipeline with the barriers it stands behind. */
export interface OrderedStep {
  readonly step: Step;
  /** One entry per earlier command it must wait for, in order from the first: true when that one may have failed. */
  readonly barrier: readonly boolean[];
}

/**
 * The commands behind `leaves`: every leaf walked to its root, parent first, leaf after leaf, each step object once. Throws when
 * there is nothing to run or a leaf is no step.
 */
export function orderSteps(leaves: readonly Leaf[]): readonly OrderedStep[] {
  const seen = new Set<Step>();
  const ordered: OrderedStep[] = [];
  let barrier: readonly boolean[] = [];
  for (const leaf of flatten(leaves)) {
    if (leaf.fields.kind === 'wait') {
      const mayFail = leaf.fields.continueOnFailure === true;
      barrier = ordered.map((_, index) => (barrier[index] ?? true) && mayFail);
    } else {
      for (const step of unseenUpTo(leaf, seen)) if (step.fields.kind === 'command') ordered.push({ step, barrier });
    }
  }
  if (ordered.length === 0) {
    throw new Error('pipeline(): there is nothing to run. List at least one command, as in pipeline([sh("make")]).');
  }
  return ordered;
}

function flatten(leaves: readonly Leaf[]): readonly Step[] {
  const steps: Step[] = [];
  const rest: unknown[] = [...leaves].reverse();
  while (rest.length > 0) {
    const leaf = rest.pop();
    if (leaf instanceof Step) steps.push(leaf);
    else if (Array.isArray(leaf)) rest.push(...[...leaf].reverse());
    else if (typeof leaf === 'function') rest.push(leaf());
    else
      throw new Error(
        `pipeline(): leaf ${steps.length + 1} is ${nameOf(leaf)}, not a step. Make steps with sh() or step.sh().`,
      );
  }
  return steps;
}

/** Adds to `seen` what `leaf` needs and is not in it yet, prerequisites first. A loop, since chains may be long. */
function unseenUpTo(leaf: Step, seen: Set<Step>): readonly Step[] {
  const found: Step[] = [];
  const path = [leaf];
  for (let at = path.at(-1); at !== undefined; at = path.at(-1)) {
    const missing = seen.has(at) ? undefined : prerequisites(at).find((step) => !seen.has(step));
    if (missing !== undefined) {
      path.push(missing);
      continue;
    }
    path.pop();
    if (!seen.has(at)) found.push(at);
    seen.add(at);
  }
  return found;
}

function prerequisites({ fields }: Step): readonly Step[] {
  return fields.parent === undefined ? fields.after : [fields.parent, ...fields.after];
}

function nameOf(value: unknown): string {
  if (value instanceof Promise) return 'a promise (await it first)';
  return value === null ? 'null' : typeof value;
}

/** Throws when two steps claim the same explicit key. */
export function refuseRepeatedKeys(ordered: readonly OrderedStep[]): void {
  const owners = new Map<string, Step>();
  for (const { step } of ordered) {
    const { key } = step.fields;
    if (key === undefined) continue;
    const other = owners.get(key);
    if (other !== undefined) {
      throw new Error(
        `two steps have the key ${JSON.stringify(key)}: ${commandOf(other)} and ${commandOf(step)}. Give one of them another key, or use the same step object in both places.`,
      );
    }
    owners.set(key, step);
  }
}

function commandOf(step: Step): string {
  return step.fields.label ?? step.fields.command ?? describeStep(step);
}
