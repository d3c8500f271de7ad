/** Everything a pipeline file imports: `import { pipeline, sh } from '@caisson/pipeline'`. The package's one public entry. */

// biome-ignore-start lint/performance/noBarrelFile: a published package lists its names in one place.
export { aptBase } from './apt-base.ts';
export type { CachePolicy } from './cache-key.ts';
export { compose, type EnvKeys, forever, onChange, ttl } from './cache-policy.ts';
export { type Pipeline, type PipelineDefinition, type PipelineOptions, pipeline } from './define-pipeline.ts';
export type { Duration } from './duration.ts';
export { env } from './environment.ts';
export type { Leaf } from './order-steps.ts';
export { group, Step, type StepOptions, scratch, sh, timeout, wait } from './step.ts';
export { clearTargetCache, target } from './target.ts';
export { type PullRequestType, pullRequest, push, type Trigger } from './trigger.ts';
// biome-ignore-end lint/performance/noBarrelFile: see above.
