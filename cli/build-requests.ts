import type { components } from '@caisson/contracts/ci/ci-api.generated';
import { ask } from './ask.ts';
import type { OpenServer } from './open-server.ts';

export type Build = components['schemas']['Build'];
export type Job = components['schemas']['Job'];
type Pipeline = components['schemas']['Pipeline'];

/** A pipeline's place in the paths of the API. */
interface PipelineRef {
  readonly org: string;
  readonly pipeline: string;
}

/** A build's place there. */
export interface BuildRef extends PipelineRef {
  readonly number: number;
}

const pipelinesPath = '/api/v0/organizations/{org}/pipelines';
const buildsPath = `${pipelinesPath}/{pipeline}/builds` as const;
const buildPath = `${buildsPath}/{number}` as const;

export async function listPipelines({ client }: OpenServer, org: string, limit: number): Promise<readonly Pipeline[]> {
  return (await ask(client.GET(pipelinesPath, { params: { path: { org }, query: { limit } } }))).data;
}

/** Throws `pipeline_slug_taken` when there is one of that name. */
export function createPipeline(
  { client }: OpenServer,
  org: string,
  body: components['schemas']['CreatePipelineRequest'],
): Promise<Pipeline> {
  return ask(client.POST(pipelinesPath, { params: { path: { org } }, body }));
}

/** The newest first. */
export async function newestBuilds(
  { client }: OpenServer,
  { org, pipeline }: PipelineRef,
  limit: number,
): Promise<readonly Build[]> {
  return (await ask(client.GET(buildsPath, { params: { path: { org, pipeline }, query: { limit } } }))).data;
}

export function createBuild(
  { client }: OpenServer,
  { org, pipeline }: PipelineRef,
  body: components['schemas']['CreateBuildRequest'],
): Promise<Build> {
  return ask(client.POST(buildsPath, { params: { path: { org, pipeline } }, body }));
}

export function readBuild({ client }: OpenServer, ref: BuildRef): Promise<Build> {
  return ask(client.GET(buildPath, { params: { path: ref } }));
}

/** The jobs, with a tag of what they and the build are like; with that tag as `known` once something is not so any more. */
export function listJobs(
  { client }: OpenServer,
  ref: BuildRef,
  { known, signal }: { readonly known?: string | undefined; readonly signal?: AbortSignal } = {},
): Promise<components['schemas']['JobList']> {
  const query = known === undefined ? {} : { known };
  return ask(client.GET(`${buildPath}/jobs`, { params: { path: ref, query }, ...(signal ? { signal } : {}) }));
}

export function cancelBuild({ client }: OpenServer, ref: BuildRef): Promise<Build> {
  return ask(client.PUT(`${buildPath}/cancel`, { params: { path: ref } }));
}

/** For the log streams of the build's jobs. */
export async function logToken({ client }: OpenServer, ref: BuildRef): Promise<string> {
  return (await ask(client.GET(`${buildPath}/log-token`, { params: { path: ref } }))).token;
}
