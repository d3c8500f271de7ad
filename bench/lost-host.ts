import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { startPlane } from '../server/test/crash-plane.ts';
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
const killed = 5;
const jobsPerHost = 4;
/** All are killed before the first one is noticed, each at another time between its heartbeats. */
const killEveryMs = 1_700;
const longestMs = 60_000;
const pipelineIr = JSON.stringify({
  version: '0',
  steps: Array.from({ length: (killed + 1) * jobsPerHost }, (_, at) => ({
    type: 'command',
    key: `j${at}`,
    cmd: 'hold',
  })),
});

interface Series {
  readonly noticed: Samples;
  readonly running: Samples;
}

async function measure(bench: Bench): Promise<Measured> {
  const series: Series = { noticed: noSamples(), running: noSamples() };
  const engines = await openEngineBench();
  try {
    for (let round = 0; round < (bench.isQuick ? 1 : 3) && !bench.signal.aborted; round++) {
      await measureRound(engines, bench, series);
    }
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
      `Real engine in a process of its own on a durable PostgreSQL; six hosts, each a process that holds ${jobsPerHost} jobs. ${killed} of them are killed one after the other, ${killEveryMs} ms apart; a sample is one job, from the kill to the moment the other host says \`started\`.`,
    ],
  };
}

async function measureRound(engines: EngineBench, bench: Bench, series: Series): Promise<void> {
  const opened = new AsyncDisposableStack();
  try {
    const dir = await mkdtemp(join(tmpdir(), 'caisson-bench-hosts-'));
    opened.defer(() => rm(dir, { recursive: true, force: true }));
    const hosts = Array.from({ length: killed + 1 }, (_, at) => ({ id: randomUUID(), socket: join(dir, `${at}`) }));
    const children = hosts.map(({ id, socket }) => fork(program, [id, socket]));
    opened.defer(() => Promise.all(children.map(end)).then(() => {}));
    await Promise.all(children.map((child) => once(child, 'message')));
    const { connectionString, scope, db } = engines;
    const hostSockets = hosts.map(({ socket }) => socket);
    const plane = await startPlane({ connectionString, hostSockets, blobDir: join(dir, 'blobs'), crashAt: null });
    opened.defer(() => plane.kill());
    await until(bench, async () => (await seenHosts(db, hosts)) === hosts.length);
    plane.build({
      ...{ ...scope, pipelineIr, trigger: 'api', createdBy: null, branch: 'main', commit: null, message: null },
      ...{ env: {}, sourceDigest: null, renderSlug: null, stopOnFailure: false },
    });
    await until(bench, async () => (await jobsOf(db, hosts)).filter(isRunning).length === hosts.length * jobsPerHost);
    const deaths = await killAll(hosts.slice(1), children.slice(1), bench);
    await until(bench, async () =>
      (await jobsOf(db, hosts)).every((job) => isRunning(job) && job.host_id === hosts[0]?.id),
    );
    await collect(db, deaths, series);
    await db.deleteFrom('builds').execute();
  } catch (error) {
    addFailure(series.running, error);
  } finally {
    await opened.disposeAsync();
  }
}

/** When each host died, by its id. */
async function killAll(
  hosts: readonly { id: string }[],
  children: readonly ChildProcess[],
  { signal }: Bench,
): Promise<ReadonlyMap<string, number>> {
  const deaths = new Map<string, number>();
  for (const [at, child] of children.entries()) {
    signal.throwIfAborted();
    child.kill('SIGKILL');
    deaths.set(hosts[at]?.id ?? '', Date.now());
    await new Promise((resolve) => setTimeout(resolve, killEveryMs));
  }
  return deaths;
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

async function collect(db: EngineBench['db'], deaths: ReadonlyMap<string, number>, series: Series): Promise<void> {
  const rows = await db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .select(['leases.host_id', 'leases.released_at', 'jobs.started_at'])
    .where('leases.status', '=', 'lost')
    .execute();
  for (const { host_id, released_at, started_at } of rows) {
    const diedAtMs = deaths.get(host_id);
    if (diedAtMs === undefined || released_at === null || started_at === null) throw new Error('a wrong job was lost');
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
