import { setTimeout as delay } from 'node:timers/promises';
import { followJobLog } from '@caisson/contracts/follow-job-log';
import type { OutputStream } from '@caisson/contracts/host-api';
import { type Build, type BuildRef, type Job, listJobs, logToken, readBuild } from './build-requests.ts';
import type { OpenServer } from './open-server.ts';

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

interface FollowOptions {
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
  const findStuck = watchForStandstill();
  const ticking = setInterval(() => view.tick?.(), tickMs);
  try {
    for (let known: string | undefined; ; ) {
      const build = await readBuild(server, ref);
      const isOver = finishedStates.includes(build.state);
      const list = await listJobs(server, ref, { known: isOver ? undefined : known, signal }).catch((error) => {
        if (signal.aborted) return null;
        throw error;
      });
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
      const stuck = findStuck(jobs);
      if (stuck !== null && !logs.has(stuck.id)) void showWait(server, { ref, job: stuck }, options).catch(() => {});
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

function isLogWanted({ state }: Job, logsOf: FollowOptions['logsOf']): boolean {
  return logsOf === 'all' ? logStates.includes(state) : state === 'failed' || state === 'timed_out';
}

const activeStates: readonly string[] = ['assigned', 'running', 'canceling', 'timing_out'];
/** By then a job that waits for a host has a line in its log that says why. */
const standstillMs = 12_000;

/** Asked with every look at a build, names a job that waits when nothing of the build has gone on for long; each at most once. */
function watchForStandstill(): (jobs: readonly Job[]) => Job | null {
  const told = new Set<string>();
  let sinceMs: number | null = null;
  return (jobs) => {
    const waiting = jobs.find(({ state }) => state === 'scheduled');
    if (waiting === undefined || jobs.some(({ state }) => activeStates.includes(state))) {
      sinceMs = null;
      return null;
    }
    sinceMs ??= performance.now();
    if (performance.now() - sinceMs < standstillMs || told.has(waiting.id)) return null;
    told.add(waiting.id);
    return waiting;
  };
}

async function showWait(
  server: OpenServer,
  { ref, job }: { ref: BuildRef; job: Job },
  { view, signal }: FollowOptions,
): Promise<void> {
  for await (const { stream, content } of readLog(server, { ref, jobId: job.id, signal })) {
    if (stream !== 'meta' || !content.includes('waiting for a host')) continue;
    view.log(job, stream, content);
    return;
  }
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
  server: OpenServer,
  { ref, jobId, signal }: { ref: BuildRef; jobId: string; signal: AbortSignal },
) {
  return followJobLog({ baseUrl: server.url, jobId, token: () => logToken(server, ref), signal });
}
