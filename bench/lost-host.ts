import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { startPlane } from '../server/test/crash-plane.ts';
import { ir } from '../server/test/ir.ts';
import { newBuildOf } from '../server/test/pipeline-scope.ts';
import { type EngineBench, openEngineBench } from './engine-bench.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples } from './statistics.ts';

const seriesName = 'kill -9 → started on another host';

/** How long the jobs of a host that dies stand still. */
export const lostHost: Row = {
  id: 'lost-host',
  title: 'host killed → its jobs running elsewhere',
  goals: [{ series: seriesName, figure: 'max', bound: '≤', limit: 20_000 }],
  measure,
};

const program = fileURLToPath(new URL('lost-host-main.ts', import.meta.url));
const killed = 10;
const jobsPerHost = 4;
const heartbeatMs = 5_000;
/** Each host begins so much later than the one before, so that all that are killed are at another point between two heartbeats. */
const beginEveryMs = 500;
const longestMs = 60_000;
const jobs = Array.from({ length: (killed + 1) * jobsPerHost }, (_, at) => [`j${at}`, ['hold']] as const);
const pipelineIr = ir(Object.fromEntries(jobs));

interface Series {
  readonly noticed: Samples;
  readonly running: Samples;
}

async function measure(bench: Bench): Promise<Measured> {
  const series: Series = { noticed: noSamples(), running: noSamples() };
  const engines = await openEngineBench();
  try {
    await measureDeaths(engines, bench, series);
  } finally {
    await engines.end();
  }
  return {
    series: [
      { name: seriesName, role: 'ours', unit: 'ms', samples: series.running },
      { name: 'kill -9 → its lease is lost', role: 'part', unit: 'ms', samples: series.noticed },
    ],
    notes: [
      'A lease lasts 15 s and is renewed every 5 s: a host that is silent for less keeps its jobs, so 10 to 16 s of this are waiting on purpose.',
      `Real engine in a process of its own on a durable PostgreSQL; ${killed + 1} hosts, each a process that holds ${jobsPerHost} jobs. ${killed} of them are killed at once, each at another point between two heartbeats; a sample is one job, from the kill to the moment the other host says \`started\`.`,
    ],
  };
}

async function measureDeaths(engines: EngineBench, bench: Bench, series: Series): Promise<void> {
  const opened = new AsyncDisposableStack();
  try {
    const dir = await mkdtemp(join(tmpdir(), 'caisson-bench-hosts-'));
    opened.defer(() => rm(dir, { recursive: true, force: true }));
    const hosts = Array.from({ length: killed + 1 }, (_, at) => ({ id: randomUUID(), socket: join(dir, `${at}`) }));
    const { connectionString, scope, db } = engines;
    const hostSockets = hosts.map(({ socket }) => socket);
    const plane = await startPlane({ connectionString, hostSockets, blobDir: join(dir, 'blobs'), crashAt: null });
    opened.defer(() => plane.kill());
    const children: ChildProcess[] = [];
    opened.defer(() => Promise.all(children.map(end)).then(() => {}));
    for (const { id, socket } of hosts) {
      children.push(fork(program, [id, socket]));
      await new Promise((resolve) => setTimeout(resolve, beginEveryMs));
    }
    await until(bench, async () => (await seenHosts(db, hosts)) === hosts.length);
    plane.build(newBuildOf(scope, { pipelineIr }));
    await until(bench, async () => (await jobsOf(db, hosts)).filter(isRunning).length === hosts.length * jobsPerHost);
    // Every lease is renewed once before, as most are.
    await new Promise((resolve) => setTimeout(resolve, heartbeatMs + beginEveryMs));
    for (const child of children.slice(1)) child.kill('SIGKILL');
    const diedAtMs = Date.now();
    await until(bench, async () =>
      (await jobsOf(db, hosts)).every((job) => isRunning(job) && job.host_id === hosts[0]?.id),
    );
    await collect(db, diedAtMs, series);
  } catch (error) {
    addFailure(series.running, error);
  } finally {
    await opened.disposeAsync();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

interface JobNow {
  readonly host_id: string;
  readonly status: string;
}

function isRunning({ status }: JobNow): boolean {
  return status === 'running';
}

async function jobsOf(db: EngineBench['db'], hosts: readonly { id: string }[]): Promise<readonly JobNow[]> {
  return db
    .selectFrom('jobs')
    .leftJoin('leases', 'leases.id', 'jobs.lease_id')
    .select(['jobs.status', sql<string>`coalesce(leases.host_id::text, '')`.as('host_id')])
    .where(({ or, eb }) =>
      or([
        eb(
          'leases.host_id',
          'in',
          hosts.map(({ id }) => id),
        ),
        eb('leases.id', 'is', null),
      ]),
    )
    .execute();
}

async function seenHosts(db: EngineBench['db'], hosts: readonly { id: string }[]): Promise<number> {
  const ids = hosts.map(({ id }) => id);
  return (await db.selectFrom('hosts').select('id').where('id', 'in', ids).execute()).length;
}

async function collect(db: EngineBench['db'], diedAtMs: number, series: Series): Promise<void> {
  const rows = await db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .select(['leases.released_at', 'jobs.started_at'])
    .where('leases.status', '=', 'lost')
    .execute();
  for (const { released_at, started_at } of rows) {
    if (released_at === null || started_at === null) throw new Error('a lost job does not run');
    series.noticed.values.push(released_at.getTime() - diedAtMs);
    series.running.values.push(started_at.getTime() - diedAtMs);
  }
  if (rows.length !== killed * jobsPerHost) throw new Error(`${rows.length} jobs were lost`);
}

async function until({ signal }: Bench, isSo: () => Promise<boolean>): Promise<void> {
  const endsAtMs = performance.now() + longestMs;
  while (!(await isSo())) {
    signal.throwIfAborted();
    if (performance.now() > endsAtMs) throw new Error(`nothing happened for ${longestMs / 1_000} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
