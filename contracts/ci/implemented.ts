import type { operations } from './ci-api.generated.ts';

/** Name of an operation of the CI door. */
export type OperationId = keyof operations;

/** The operations that work; every other one answers `not_implemented`. `docs/ci-api.md` is written from this list. */
export const implementedOperations = [
  'ping',
  'logout',
  'getCurrentUser',
  'updateCurrentUser',
  'listApiTokens',
  'createApiToken',
  'revokeApiToken',
  'listOrganizations',
  'createOrganization',
  'getOrganization',
  'listPipelines',
  'createPipeline',
  'getPipeline',
  'listBuilds',
  'createBuild',
  'createBuildBySource',
  'getBuild',
  'cancelBuild',
  'listJobs',
  'getJob',
  'getBuildLogToken',
  'getBuildSource',
  'uploadSource',
] as const satisfies readonly OperationId[];
