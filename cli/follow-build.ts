import { setTimeout as delay } from 'node:timers/promises';
import type { components } from '@caisson/contracts/ci/ci-api.generated';
import { followJobLog } from '@caisson/contracts/follow-job-log';
import type { OutputStream } from '@caisson/contracts/host-api';
import { ask } from './ask.ts';
import type { OpenServer } from './open-server.ts';

export type Build = components['schemas']['Build'];
export type Job = components['schemas']['Job'];
type JobList = components['schemas']['JobList'];

/** Which build: its place in the paths of the API. */
export interface BuildRef {
  readonly org: string;
  readonly pipeline: string;
  readonly number: number;
}

/** How a build is shown while it runs: as a live tree, as plain lines, or as JSON. */
export interface BuildView {
  /** Called with every state seen; the first call says what the build consists of. */
  update(build: Build, jobs: readonly Job[]): void;
  log(job: Job, stream: OutputStream, text: string): void;
  /** Called again and again, for what changes by time alone. */
  tick?(): void;
  /** Called once, after every log was written. */
  finish(build: Build, jobs: readonly Job[]): void;
}

export interface FollowOptions {
  readonly view: BuildView;
  /** Whose logs are shown as they come. The log of a job that fails is shown in any case. */
  readonly logsOf: 'all' | 'failed';
  readonly signal: AbortSignal;
}

const tickMs = 100;
/** Of a large build something changes all the time, and each look at it is a large answer. */
const longestPauseMs = 50;
const finishedStates: readonly string[] = ['passed', 'failed', 'canceled'];
const logStates: readonly string[] = [
  'running',
  'passed',
  'failed',
  'timing_out',
  'timed_out',
  'canceling',
  'canceled',
];

/** Shows a build until it is over, logs included. Resolves with its last state; with what is known when `signal` aborts. */
export async function followBuild(server: OpenServer, ref: BuildRef, options: FollowOptions): Promise<Build> {
  const { view, signal } = options;
  const logs = new Map<string, Promise<void>>();
  const ticking = setInterval(() => view.tick?.(), tickMs);
  try {
    for (let known: string | undefined; ; ) {
      const build = await ask(server.client.GET(buildPath, { params: { path: ref } }));
      const isOver = finishedStates.includes(build.state);
      const list = await listJobs(server, { ref, known: isOver ? undefined : known, signal });
      if (list === null) {
        await Promise.all(logs.values());
        return build;
      }
      const jobs = list.data;
      known = list.tag;
      view.update(build, jobs);
      for (const job of jobs.filter((one) => isLogWanted(one, options.logsOf) && !logs.has(one.id))) {
        logs.set(job.id, showLog(server, { ref, job }, options));
      }
      if (isOver) {
        await Promise.all(logs.values());
        view.finish(build, jobs);
        return build;
      }
      await delay(Math.min(jobs.length, longestPauseMs), undefined, { signal }).catch(() => {});
    }
  } finally {
    clearInterval(ticking);
  }
}

/** The jobs once they, or the build, are not as `known` says; null when `signal` aborts. */
async function listJobs(
  { client }: OpenServer,
  { ref, known, signal }: { ref: BuildRef; known: string | undefined; signal: AbortSignal },
): Promise<JobList | null> {
  const query = known === undefined ? {} : { known };
  try {
    return await ask(client.GET(jobsPath, { params: { path: ref, query }, signal }));
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

const buildPath = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds/{number}';
const jobsPath = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds/{number}/jobs';
const logTokenPath = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds/{number}/log-token';

function isLogWanted({ state }: Job, logsOf: FollowOptions['logsOf']): boolean {
  return logsOf === 'all' ? logStates.includes(state) : state === 'failed' || state === 'timed_out';
}

async function showLog(
  server: OpenServer,
  { ref, job }: { ref: BuildRef; job: Job },
  { view, signal }: FollowOptions,
): Promise<void> {
  for await (const chunk of readLog(server, { ref, jobId: job.id, signal })) {
    view.log(job, chunk.stream, chunk.content);
  }
}

/** The log of one job from its beginning until the job is over. */
export function readLog(
  { url, client }: OpenServer,
  { ref, jobId, signal }: { ref: BuildRef; jobId: string; signal: AbortSignal },
) {
  const token = async () => (await ask(client.GET(logTokenPath, { params: { path: ref } }))).token;
  return followJobLog({ baseUrl: url, jobId, token, signal });
}
