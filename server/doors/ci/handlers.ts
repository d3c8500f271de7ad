import { createApiToken } from './api-token-create.ts';
import { listApiTokens } from './api-token-list.ts';
import { revokeApiToken } from './api-token-revoke.ts';
import { cancelBuild } from './build-cancel.ts';
import { createBuild } from './build-create.ts';
import { createBuildBySource } from './build-create-by-source.ts';
import { listBuilds } from './build-list.ts';
import { getBuildLogToken } from './build-log-token.ts';
import { getBuild } from './build-show.ts';
import { getBuildSource } from './build-source.ts';
import { listJobs } from './job-list.ts';
import { getJob } from './job-show.ts';
import type { CiCaller, CiDeps } from './operation.ts';
import { createOrganization } from './organization-create.ts';
import { listOrganizations } from './organization-list.ts';
import { getOrganization } from './organization-show.ts';
import { ping } from './ping.ts';
import { createPipeline } from './pipeline-create.ts';
import { listPipelines } from './pipeline-list.ts';
import { getPipeline } from './pipeline-show.ts';
import { logout } from './session-end.ts';
import { uploadSource } from './source-upload.ts';
import { getCurrentUser } from './user-show.ts';
import { updateCurrentUser } from './user-update.ts';

/** A handler with the types of its operation forgotten: the routes have checked the input against the contract. */
export type AnyHandler = (deps: CiDeps, caller: CiCaller, input: never) => Promise<unknown>;

/** The operations that are built, by operationId. */
export const handlers: ReadonlyMap<string, AnyHandler> = new Map<string, AnyHandler>(
  Object.entries({
    cancelBuild,
    createApiToken,
    createBuild,
    createBuildBySource,
    createOrganization,
    createPipeline,
    getBuild,
    getBuildLogToken,
    getBuildSource,
    getCurrentUser,
    getJob,
    getOrganization,
    getPipeline,
    listApiTokens,
    listBuilds,
    listJobs,
    listOrganizations,
    listPipelines,
    logout,
    ping,
    revokeApiToken,
    updateCurrentUser,
    uploadSource,
  }),
);
