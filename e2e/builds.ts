import { setTimeout as delay } from 'node:timers/promises';
import { hasCode } from '@caisson/contracts/app-error';
import type { components } from '@caisson/contracts/ci/ci-api.generated';
import type { LogChunk } from '@caisson/contracts/ci/log-stream';
import { followJobLog } from '@caisson/contracts/follow-job-log';
import {
  type Build,
  cancelBuild,
  createBuild,
  createPipeline,
  type Job,
  listJobs,
  logToken,
  readBuild,
} from '../cli/build-requests.ts';
import { connectTo } from '../cli/open-server.ts';

type NewBuild = components['schemas']['CreateBuildRequest'];

const org = 'local';
const pipeline = 'e2e';
const lookEveryMs = 50;

/** Builds of one pipeline of the organization `local`, through the API alone. */
export interface Builds {
  create(body: Partial<NewBuild>): Promise<number>;
  /** Uploads an archive and returns its digest. */
  upload(archive: Uint8Array): Promise<string>;
  show(number: number): Promise<Build>;
  /** Jobs by step key. */
  jobs(number: number): Promise<Record<string, Job>>;
  cancel(number: number): Promise<void>;
  /** Looks until the build is over; rejects with what is known after `withinMs`. */
  ended(number: number, withinMs?: number): Promise<Ended>;
  /** Looks until the job is in one of the states. */
  reached(number: number, key: string, states: readonly Job['state'][]): Promise<Job>;
  /** The log of a job as it comes, from its beginning to its end. */
  follow(number: number, key: string, signal?: AbortSignal): AsyncGenerator<LogChunk>;
  /** The whole log of one job; `stream` leaves the others out. */
  log(number: number, key: string, stream?: LogChunk['stream']): Promise<string>;
  /** Resolves when `text` stands in the job's log. */
  logged(number: number, key: string, text: string): Promise<void>;
}

interface Ended {
  readonly build: Build;
  readonly jobs: Record<string, Job>;
}

export function openBuilds(url: string, token: string): Builds {
  const server = connectTo(url, token);
  const ref = (number: number) => ({ org, pipeline, number });
  const builds: Builds = {
    async create(body) {
      await makePipeline();
      const whole = { branch: 'main', commit: '0'.repeat(40), ...body };
      return (await createBuild(server, { org, pipeline }, whole)).number;
    },
    async upload(archive) {
      const response = await fetch(`${url}/api/v0/organizations/${org}/sources`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/gzip' },
        body: archive as Uint8Array<ArrayBuffer>,
      });
      if (!response.ok) throw new Error(`the upload was answered with ${response.status}: ${await response.text()}`);
      return ((await response.json()) as { digest: string }).digest;
    },
    show: (number) => readBuild(server, ref(number)),
    async jobs(number) {
      const { data } = await listJobs(server, ref(number));
      return Object.fromEntries(data.map((job) => [job.step_key, job]));
    },
    cancel: async (number) => void (await cancelBuild(server, ref(number))),
    async ended(number, withinMs = 40_000) {
      const found = await look(number, withinMs, ({ build }) => build.finished_at !== null || undefined);
      return found.seen;
    },
    async reached(number, key, states) {
      const { found } = await look(number, 40_000, ({ jobs }) => {
        const job = jobs[key];
        return job !== undefined && states.includes(job.state) ? job : undefined;
      });
      return found;
    },
    async *follow(number, key, signal = new AbortController().signal) {
      const job = await builds.reached(number, key, logStates);
      const token = () => logToken(server, ref(number));
      yield* followJobLog({ baseUrl: url, jobId: job.id, token, signal, patienceMs: 5_000 });
    },
    async log(number, key, stream) {
      let text = '';
      for await (const chunk of builds.follow(number, key)) {
        if (stream === undefined || chunk.stream === stream) text += chunk.content;
      }
      return text;
    },
    async logged(number, key, text) {
      let seen = '';
      for await (const { content } of builds.follow(number, key)) {
        seen += content;
        if (seen.includes(text)) return;
      }
      const { state, error_message } = (await builds.jobs(number))[key] ?? {};
      throw new Error(`the log of ${key} (${state}, ${error_message}) ended without ${text}:\n${seen}`);
    },
  };

  /** Asks again and again, also while the server has no database. */
  async function look<T>(
    number: number,
    withinMs: number,
    find: (seen: Ended) => T | undefined,
  ): Promise<{ found: T; seen: Ended }> {
    const endsAtMs = Date.now() + withinMs;
    for (let last = 'not seen'; ; await delay(lookEveryMs)) {
      if (Date.now() > endsAtMs) throw new Error(`build ${number} is still ${last}`);
      const seen = await see(number).catch((error: unknown) => {
        if (hasCode(error, 'service_unavailable') || hasCode(error, 'database_unavailable')) return null;
        throw error;
      });
      if (seen === null) continue;
      const found = find(seen);
      if (found !== undefined) return { found, seen };
      last = `${seen.build.state}: ${stateText(seen.jobs)}`;
    }
  }

  /** The build before its jobs, so that those of an ended build are ended. */
  async function see(number: number): Promise<Ended> {
    return { build: await builds.show(number), jobs: await builds.jobs(number) };
  }

  async function makePipeline(): Promise<void> {
    const body = { name: pipeline, repository: 'https://example.test/e2e.git', default_branch: 'main' };
    await createPipeline(server, org, body).catch((error: unknown) => {
      if (!hasCode(error, 'pipeline_slug_taken')) throw error;
    });
  }
  return builds;
}

/** States in which there may be a log. */
const logStates: readonly Job['state'][] = [
  'assigned',
  'running',
  'passed',
  'failed',
  'timing_out',
  'timed_out',
  'canceling',
  'canceled',
];

function stateText(jobs: Record<string, Job>): string {
  return Object.values(jobs)
    .map(({ step_key, state }) => `${step_key} ${state}`)
    .join(', ');
}

export interface StepOptions {
  readonly buildsIn?: string;
  readonly timeoutSeconds?: number;
  readonly image?: string;
}

/** IR of the flat dialect: `{key: [command, options]}`. */
export function ir(steps: Record<string, readonly [command: string, options?: StepOptions]>): string {
  return JSON.stringify({
    version: '0',
    steps: Object.entries(steps).map(([key, [cmd, { buildsIn, timeoutSeconds, image } = {}]]) => ({
      type: 'command',
      key,
      cmd,
      builds_in: buildsIn ?? null,
      ...(timeoutSeconds === undefined ? {} : { timeout_seconds: timeoutSeconds }),
      ...(image === undefined ? {} : { image }),
    })),
  });
}
