import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { RunAssignment } from '@caisson/contracts/host-api';
import { serveHostApi } from '@caisson/contracts/host-server';
import { sql } from 'kysely';
import { expect, vi } from 'vitest';
import type { NewBuild } from '../engine/engine.ts';
import { openDirectoryBlobs } from '../store/blobs.ts';
import type { BuildRow } from '../store/build-row.ts';
import { type Database, openDatabase } from '../store/database.ts';
import type { JobRow } from '../store/job-row.ts';
import type { CrashPlane, CrashSettings } from './crash-plane.ts';
import { freshDatabase } from './database.ts';
import { ir } from './ir.ts';
import { addPipeline, newBuildOf } from './pipeline-scope.ts';
import { exited, type Script, type ScriptedHost, scriptedHost } from './scripted-host.ts';

const lookAgainMs = 50;
const linesPerJob = 20;

/** What each build is for, by its message. Together they pass every crash point. */
const wanted = {
  /** Rendered from a source that the host does not have yet, then forks whose parent's disk is given back, one after the other. */
  rendered: null,
  /** Runs until somebody cancels the build. */
  hang: ir({ hang: ['hang'] }),
  /** The host forgets its first attempt. */
  forget: ir({ forget: ['forget'] }),
  /** The host does not end it when its time is over. */
  overdue: ir({ overdue: ['hang'] }),
} as const;
type Wanted = keyof typeof wanted;

const graph = ir({
  install: ['talk'],
  left: ['talk', 'install'],
  right: ['talk', 'install'],
  third: ['talk', 'left'],
  fourth: ['talk', 'third'],
  fifth: ['talk', 'fourth'],
  last: ['fail', 'fifth'],
});
/** Jobs from whose disks others start. */
const parents = ['install', 'left', 'third', 'fourth', 'fifth'];
const expected: Record<Wanted, readonly [build: string, jobs: Record<string, string>]> = {
  rendered: [
    'failed',
    { render: 'passed', right: 'passed', ...Object.fromEntries(parents.map((key) => [key, 'passed'])), last: 'failed' },
  ],
  hang: ['canceled', { hang: 'canceled' }],
  forget: ['passed', { forget: 'passed' }],
  overdue: ['failed', { overdue: 'timed_out' }],
};

/** A database with an organization, a host in this process behind a socket, and the builds above brought to their ends. */
export interface Scenario {
  readonly db: Database;
  readonly settings: Omit<CrashSettings, 'crashAt'>;
  /** Has `plane` do what is still to be done, as long as it lives. Resolves when every build is over, or the plane is gone. */
  drive(plane: CrashPlane): Promise<void>;
  /** Everything came to its right end, once, and nothing is left. */
  check(): Promise<void>;
  close(): Promise<void>;
}

export async function openScenario(): Promise<Scenario> {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-crash-'));
  const { connectionString, drop } = await freshDatabase();
  const { db, close } = openDatabase(connectionString, 2);
  const blobDir = join(dir, 'blobs');
  const blobs = await openDirectoryBlobs(blobDir);
  const { digest } = await blobs.put(Readable.from([Buffer.from('a source')]));
  const host = crashHost(digest);
  const hostSocket = join(dir, 'host');
  const served = await serveHostApi(host.api, { kind: 'socket', path: hostSocket });
  const scope = await addPipeline(db);
  const buildOf = (message: Wanted): NewBuild => {
    const sourceDigest = message === 'rendered' ? digest : null;
    return newBuildOf(scope, { message, pipelineIr: wanted[message], sourceDigest });
  };
  return {
    db,
    settings: { connectionString, hostSockets: [hostSocket], blobDir },
    async drive(plane) {
      const asked = new Set<string>();
      while (plane.isRunning()) {
        const builds = await db.selectFrom('builds').selectAll().execute();
        for (const message of Object.keys(wanted) as Wanted[]) {
          if (asked.has(message) || builds.some((build) => build.message === message)) continue;
          asked.add(message);
          // The database may have taken it all the same; then it is not asked for again.
          plane.build(buildOf(message), () => asked.delete(message));
        }
        await push({ db, host, plane, asked }, builds);
        if (builds.length >= 4 && builds.every(({ finished_at }) => finished_at !== null)) return;
        await Promise.race([plane.ended, new Promise((resolve) => setTimeout(resolve, lookAgainMs))]);
      }
    },
    async check() {
      await checkBuilds(db, host.api);
      await checkNothingLeft(db, host);
    },
    async close() {
      await served.close();
      await close();
      await drop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

interface CrashHost {
  readonly api: ScriptedHost;
  readonly isStrangerEnded: () => boolean;
}

/** A host that has no blobs yet and holds one run that nobody knows. */
function crashHost(digest: string): CrashHost {
  const script: Script = async ({ assignment: { work }, print, canceled }) => {
    if (work.kind === 'render') {
      print(graph.slice(0, 40));
      print(graph.slice(40));
      return exited(0);
    }
    if (work.text === 'hang') return { outcome: (await canceled) === 'timed_out' ? 'timed_out' : 'canceled' };
    for (let line = 1; line <= linesPerJob; line += 1) {
      print(`line ${line}\n`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (work.text === 'forget' && api.taken.filter(isForget).length === 1) await canceled;
    return exited(work.text === 'fail' ? 3 : 0);
  };
  const inner = scriptedHost(script);
  const stored = new Set<string>();
  const stranger = { leaseId: randomUUID(), fence: 2 ** 40 };
  let isStrangerEnded = false;
  const api: ScriptedHost = Object.assign(inner, {
    hasBlob: async (wantedDigest: string) => stored.has(wantedDigest),
    async putBlob(wantedDigest: string, bytes: AsyncIterable<Uint8Array>) {
      const hash = createHash('sha256');
      for await (const part of bytes) hash.update(part);
      expect([wantedDigest, hash.digest('hex')]).toEqual([digest, digest]);
      stored.add(wantedDigest);
    },
  });
  const { heartbeat, cancelRun } = inner;
  api.heartbeat = async () => {
    const { hostId, leases } = await heartbeat();
    return { hostId, leases: isStrangerEnded ? leases : [...leases, stranger] };
  };
  api.cancelRun = async (lease, reason) => {
    if (lease.fence === stranger.fence) isStrangerEnded = true;
    return cancelRun(lease, reason);
  };
  return { api, isStrangerEnded: () => isStrangerEnded };
}

function isForget({ work }: RunAssignment): boolean {
  return work.kind === 'shell' && work.text === 'forget';
}

interface Driven {
  readonly db: Database;
  readonly host: CrashHost;
  readonly plane: CrashPlane;
  readonly asked: Set<string>;
}

/** What has to happen to the builds from outside. */
async function push({ db, host, plane, asked }: Driven, builds: readonly BuildRow[]): Promise<void> {
  const running = await db.selectFrom('jobs').selectAll().where('status', '=', 'running').execute();
  for (const job of running) {
    const message = builds.find(({ id }) => id === job.build_id)?.message;
    if (message === 'hang' && !asked.has('cancel')) {
      asked.add('cancel');
      plane.cancel(job.build_id);
    }
    if (message === 'forget' && job.attempt === 1) host.api.forget(job.lease_id ?? '');
    if (message !== 'overdue') continue;
    await db
      .updateTable('leases')
      .set({ due_at: new Date(0) })
      .where('id', '=', job.lease_id)
      .execute();
  }
}

async function checkBuilds(db: Database, host: ScriptedHost): Promise<void> {
  const builds = await db.selectFrom('builds').selectAll().execute();
  expect(builds.map(({ message }) => message).toSorted()).toEqual(Object.keys(wanted).toSorted());
  const leases = host.taken.map(({ leaseId }) => leaseId);
  expect(new Set(leases).size, 'a lease was begun twice').toBe(leases.length);
  for (const build of builds) {
    const jobs = await db.selectFrom('jobs').selectAll().where('build_id', '=', build.id).execute();
    const states = Object.fromEntries(jobs.map(({ step_key, status }) => [step_key, status]));
    expect([build.status, states], String(build.message)).toEqual(expected[build.message as Wanted]);
    for (const job of jobs) await checkJob({ db, host }, job);
  }
}

async function checkJob({ db, host }: { db: Database; host: ScriptedHost }, job: JobRow): Promise<void> {
  const leases = await db.selectFrom('leases').selectAll().where('job_id', '=', job.id).execute();
  const runs = host.taken.filter(({ leaseId }) => leases.some(({ id }) => id === leaseId));
  expect(leases).toHaveLength(job.attempt);
  expect(runs.length).toBeLessThanOrEqual(job.attempt);
  expect(job.attempt, job.step_key).toBe(job.step_key === 'forget' ? 2 : 1);
  const chunks = await db.selectFrom('log_chunks').selectAll().where('job_id', '=', job.id).orderBy('seq').execute();
  expect(chunks.map(({ seq }) => seq)).toEqual(chunks.map((_chunk, index) => index + 1));
  const last = chunks.filter(({ seq }) => seq > job.log_start_seq);
  const stored = Buffer.concat(last.map(({ content }) => content)).toString();
  // A busy machine may keep it waiting for so long that its log says why.
  const output = stored.replaceAll(/^\[caisson\] waiting for a host: .*\n/gm, '');
  const lines = Array.from({ length: linesPerJob }, (_line, index) => `line ${index + 1}\n`).join('');
  expect(output).toBe(job.kind === 'render' ? graph : job.command === 'hang' ? '' : lines);
}

async function checkNothingLeft(db: Database, host: CrashHost): Promise<void> {
  const count = async (from: string) =>
    (await sql<{ n: number }>`select count(*) as n from ${sql.raw(from)}`.execute(db)).rows[0]?.n;
  expect(await count(`leases where status = 'held'`), 'held leases').toBe(0);
  expect(await count('capsules where ended_at is null'), 'open capsules').toBe(0);
  expect(await count(`pgboss.job where name = 'effects_dead'`), 'dead letters').toBe(0);
  // What is done a moment after the builds have ended.
  const patience = { timeout: 15_000, interval: lookAgainMs };
  await vi.waitFor(async () => expect(await count('layers'), 'layers').toBe(0), patience);
  await vi.waitFor(async () => expect((await host.api.heartbeat()).leases, 'runs').toEqual([]), patience);
  expect(host.isStrangerEnded()).toBe(true);
  expect(new Set(host.api.released).size).toBe(parents.length);
}
