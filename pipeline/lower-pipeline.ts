import type { Pipeline } from './define-pipeline.ts';
import type { IrEdge, IrNode, IrStep, PipelineIr } from './ir.ts';
import type { OrderedStep } from './order-steps.ts';
import { nearestCommand, type Step } from './step.ts';
import { type Sha256Hex, stepKeys } from './step-key.ts';

/** What every step gets below the pipeline's env and its own: nobody is there to answer a question or to see a cursor move. */
const baseEnv = { DEBIAN_FRONTEND: 'noninteractive', TERM: 'dumb' };

/** The pipeline as IR, cache keys not yet resolved. Throws when two steps end up with one key. */
export function lowerPipeline(pipeline: Pipeline, sha256Hex: Sha256Hex): PipelineIr {
  const { steps, defaultImage, timeoutSeconds } = pipeline;
  const indexOf = new Map(steps.map(({ step }, index) => [step, index]));
  const keys = keysOf(steps, indexOf, sha256Hex);
  const links = steps.map((ordered) => linksOf(ordered, indexOf));
  const nodes = steps.map(({ step }, index): IrNode => {
    const tolerated = (links[index]?.tolerated ?? []).map((earlier) => keys[earlier] ?? '');
    return {
      step: irStep(step, { key: keys[index] ?? '', tolerated, defaultImage }),
      env: { ...baseEnv, ...pipeline.env, ...step.fields.env },
    };
  });
  return {
    version: '0',
    ...(defaultImage === null ? {} : { default_image: defaultImage }),
    ...(timeoutSeconds === null ? {} : { timeout_seconds: timeoutSeconds }),
    graph: { nodes, node_holes: [], edge_property: 'directed', edges: links.flatMap(({ edges }) => edges) },
  };
}

function keysOf(
  steps: readonly OrderedStep[],
  indexOf: ReadonlyMap<Step, number>,
  sha256Hex: Sha256Hex,
): readonly string[] {
  const keyed = steps.map(({ step: { fields } }) => ({
    key: fields.key ?? null,
    label: fields.label ?? null,
    command: fields.command ?? '',
    parent: fields.parent === undefined ? null : (indexOf.get(fields.parent) ?? null),
  }));
  const keys = stepKeys(keyed, sha256Hex);
  const repeated = keys.find((key, index) => keys.indexOf(key) !== index);
  if (repeated !== undefined) {
    throw new Error(
      `two steps end up with the key ${JSON.stringify(repeated)}. Give one of them another { key } or label.`,
    );
  }
  return keys;
}

/** Edges into one step, each prerequisite once: the disk it starts from, then `after`, then what stands before a wait. */
function linksOf({ step, barrier }: OrderedStep, indexOf: ReadonlyMap<Step, number>) {
  const self = indexOf.get(step) ?? 0;
  const edges: IrEdge[] = [];
  const linked = new Set<number>();
  const link = (from: number | undefined, kind: IrEdge[2]): boolean => {
    if (from === undefined || linked.has(from)) return false;
    linked.add(from);
    edges.push([from, self, kind]);
    return true;
  };
  const parent = nearestCommand(step.fields.parent);
  if (parent !== undefined) link(indexOf.get(parent), 'builds_in');
  for (const earlier of step.fields.after) link(indexOf.get(earlier), 'depends_on');
  const tolerated = [...barrier.entries()].filter(([from, mayFail]) => link(from, 'depends_on') && mayFail);
  return { edges, tolerated: tolerated.map(([from]) => from) };
}

interface Placed {
  readonly key: string;
  readonly tolerated: readonly string[];
  readonly defaultImage: string | null;
}

function irStep({ fields }: Step, { key, tolerated, defaultImage }: Placed): IrStep {
  const image = imageOf(fields, defaultImage);
  return {
    key,
    cmd: fields.command ?? '',
    ...(fields.label === undefined ? {} : { label: fields.label }),
    ...(image === undefined ? {} : { image }),
    ...(Object.keys(fields.env ?? {}).length === 0 ? {} : { env: fields.env }),
    ...(fields.timeoutSeconds === undefined ? {} : { timeout_seconds: fields.timeoutSeconds }),
    ...(fields.snapshot === undefined ? {} : { snapshot: fields.snapshot }),
    ...(fields.cache === undefined ? {} : { cache: fields.cache }),
    ...(fields.runner === undefined ? {} : { runner: fields.runner }),
    ...(fields.runnerArgs === undefined ? {} : { runner_args: fields.runnerArgs }),
    ...(tolerated.length === 0 ? {} : { continue_on_failure: tolerated }),
  };
}

/** A step that starts no other step's disk has its own image, its scratch's, or the pipeline's default. */
function imageOf(fields: Step['fields'], defaultImage: string | null): string | undefined {
  if (fields.image !== undefined || nearestCommand(fields.parent) !== undefined) return fields.image;
  let above = fields.parent;
  while (above !== undefined && above.fields.image === undefined) above = above.fields.parent;
  return above?.fields.image ?? defaultImage ?? undefined;
}
