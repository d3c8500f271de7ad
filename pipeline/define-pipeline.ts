import { type Duration, parseDuration } from './duration.ts';
import { type Leaf, type OrderedStep, orderSteps, refuseRepeatedKeys } from './order-steps.ts';
import { readEnv } from './step-env.ts';
import type { Trigger } from './trigger.ts';

/** What can be said about a pipeline as a whole. */
export interface PipelineOptions {
  /** Given to every step; a step's own env wins. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Where steps start that have neither an image nor a parent. */
  readonly defaultImage?: string | undefined;
  /** Wall-clock limit of the whole build. */
  readonly timeout?: Duration | undefined;
}

/** The answer of `pipeline()`: checked and in order, not yet rendered. */
export interface Pipeline {
  readonly kind: 'pipeline';
  readonly steps: readonly OrderedStep[];
  readonly env: Readonly<Record<string, string>>;
  readonly defaultImage: string | null;
  readonly timeoutSeconds: number | null;
}

/** What a pipeline file exports, alone or in a list. */
export interface PipelineDefinition {
  /** The pipeline's name in URLs and on the command line: a lower-case letter, then up to 63 of `a-z`, `0-9`, `-`. */
  readonly slug: string;
  readonly name?: string;
  /** False when only triggers may start it. */
  readonly allowManual?: boolean;
  readonly triggers?: readonly Trigger[];
  readonly pipeline: Pipeline;
}

/** A pipeline made of its last steps; what they start from comes along. Throws with the step's name when something is wrong. */
export function pipeline(leaves: readonly Leaf[], options: PipelineOptions = {}): Pipeline {
  if (!Array.isArray(leaves))
    throw new Error('pipeline(): pass the leaves as one list, as in pipeline([a, b], { env }).');
  refuseStray(options);
  const { defaultImage } = options;
  if (defaultImage !== undefined && (typeof defaultImage !== 'string' || defaultImage === '')) {
    throw new Error('pipeline(): defaultImage must be a non-empty string.');
  }
  const steps = orderSteps(leaves);
  refuseRepeatedKeys(steps);
  return Object.freeze({
    kind: 'pipeline',
    steps,
    env: readEnv(options.env ?? {}, 'pipeline()'),
    defaultImage: defaultImage ?? null,
    timeoutSeconds: options.timeout === undefined ? null : parseDuration(options.timeout, 'pipeline(): timeout'),
  });
}

/** Throws when a slug is not one; `where` says which definition it belongs to. */
export function checkSlug(slug: unknown, where: string): asserts slug is string {
  if (typeof slug !== 'string' || !/^[a-z][a-z0-9-]{0,63}$/.test(slug)) {
    throw new Error(
      `${where}: ${JSON.stringify(slug) ?? 'undefined'} is not a slug. Use a lower-case letter, then up to 63 of a-z, 0-9 and "-", such as "build-and-test".`,
    );
  }
}

function refuseStray(options: unknown): void {
  if (typeof options !== 'object' || options === null || 'fields' in options || Array.isArray(options)) {
    throw new Error('pipeline(): pass the leaves as one list, as in pipeline([a, b], { env }).');
  }
}
