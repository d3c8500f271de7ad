import { type At, readName, readTimeout, refuse } from './plan-reading.ts';
import { type Env, mergeEnv, readEnv } from './read-env.ts';
import { readStep, type StepDraft } from './read-step.ts';

/** A document in any dialect once its steps are read and its edges are numbers. */
export interface PlanDraft {
  readonly steps: readonly StepDraft[];
  readonly indexByKey: ReadonlyMap<string, number>;
  readonly defaultImage: string | null;
  readonly timeoutMs: number | null;
  /** Per step, the one whose disk it starts from, or -1. */
  readonly parents: Int32Array;
  /** Every edge, both kinds: prerequisite and dependent. May hold repeats. */
  readonly from: Int32Array;
  readonly to: Int32Array;
}

/** What stands in for a draft once a fault was found. */
export const emptyDraft: PlanDraft = {
  steps: [],
  indexByKey: new Map(),
  defaultImage: null,
  timeoutMs: null,
  parents: new Int32Array(),
  from: new Int32Array(),
  to: new Int32Array(),
};

/** Where one command step is read from. */
export interface StepSource {
  readonly at: At;
  /** Null when the dialect's place for it holds none. */
  readonly command: string | null;
  /** The node around the step, whose env goes on top of the step's; null where the dialect has none. */
  readonly outerEnv: At | null;
}

/** Reads the pipeline's own fields and all of its steps; null when anything is refused. */
export function readSteps(
  pipeline: At,
  sources: readonly StepSource[],
): Pick<PlanDraft, 'steps' | 'indexByKey' | 'defaultImage' | 'timeoutMs'> | null {
  const baseEnv = readEnv(pipeline);
  const defaultImage = readName(pipeline, 'default_image');
  const timeoutMs = readTimeout(pipeline);
  if (sources.length === 0) refuse(pipeline, 'invalid_ir', 'has no command steps; give it at least one.');
  const steps: StepDraft[] = [];
  const maxEnvEntries = pipeline.reading.limits.totalEnvEntries;
  let envEntries = 0;
  for (const source of sources) {
    if (pipeline.reading.rejection !== null) return null;
    const env = readStepEnv(source, baseEnv);
    const step = readStep(source.at, source.command, env);
    if (step !== null) steps.push(step);
    envEntries += env.entries;
    if (envEntries > maxEnvEntries) {
      refuse(pipeline, 'too_large', `has more than ${maxEnvEntries} env entries over all its steps; use fewer.`);
    }
  }
  const indexByKey = indexKeys(sources, steps);
  return pipeline.reading.rejection === null ? { steps, indexByKey, defaultImage, timeoutMs } : null;
}

function readStepEnv({ at, outerEnv }: StepSource, baseEnv: Env): Env {
  const env = mergeEnv(at, baseEnv, readEnv(at));
  return outerEnv === null ? env : mergeEnv(at, env, readEnv(outerEnv));
}

function indexKeys(sources: readonly StepSource[], steps: readonly StepDraft[]): ReadonlyMap<string, number> {
  const indexByKey = new Map<string, number>();
  for (const [index, { key }] of steps.entries()) {
    const at = sources[index]?.at;
    if (at !== undefined && indexByKey.has(key))
      refuse(at, 'duplicate_key', 'is there twice; give every step a key of its own.');
    indexByKey.set(key, index);
  }
  return indexByKey;
}
