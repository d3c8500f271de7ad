import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serveHostApi } from '@caisson/contracts/host-server';
import { sql } from 'kysely';
import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { type CrashPlane, startPlane } from './crash-plane.ts';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { ir } from './ir.ts';
import { logTexts } from './log-texts.ts';
import { exited, type Script, type ScriptedHost, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  await rig.close();
});

const graph = ir({
  install: ['install'],
  ...Object.fromEntries(Array.from({ length: 12 }, (_each, index) => [`fork-${index}`, ['fork', 'install']] as const)),
});
const lines = 30;

const talk: Script = async ({ print }) => {
  for (let line = 1; line <= lines; line += 1) {
    print(`line ${line}\n`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return exited(0);
};

/** Every build passed, every job ran once, every log is whole, whatever else was said in it about waiting. */
async function expectOnce(taken: readonly { leaseId: string }[], jobs: number): Promise<void> {
  expect(new Set(taken.map(({ leaseId }) => leaseId)).size).toBe(taken.length);
  expect(taken).toHaveLength(jobs);
  const whole = Array.from({ length: lines }, (_line, index) => `line ${index + 1}\n`).join('');
  expect(await logTexts(rig.db)).toEqual(Array.from({ length: jobs }, () => whole));
}

async function terminate(connectionString: string, where: string): Promise<number> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    const { rowCount } = await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and ${where}`,
    );
    return rowCount ?? 0;
  } finally {
    await client.end();
  }
}

test('all connections to PostgreSQL ended again and again in the middle of builds', async () => {
  const host = scriptedHost(talk);
  rig = await engineRig([host]);
  await rig.another();
  const builds = await Promise.all(Array.from({ length: 4 }, () => rig.build(graph)));
  for (let round = 0; round < 3; round += 1) {
    expect(await terminate(rig.connectionString, 'true')).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  for (const { build } of builds) expect((await rig.ended(build.id)).status).toBe('passed');
  await expectOnce(host.taken, 4 * 13);
});

test('without the connection that listens a build comes to its end, and it listens again', async () => {
  const host = scriptedHost(talk);
  rig = await engineRig([host]);
  const isListening = `application_name = 'caisson-listen'`;
  expect(await terminate(rig.connectionString, isListening)).toBe(1);
  const { build } = await rig.build(graph);
  expect((await rig.ended(build.id)).status).toBe('passed');
  await expect.poll(() => terminate(rig.connectionString, isListening)).toBe(1);
});

test('connections used up by others for a while only delay', async () => {
  const host = scriptedHost(talk);
  rig = await engineRig([host]);
  const held = await Promise.all(Array.from({ length: 10 }, () => rig.pool.connect()));
  const building = rig.build(graph);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(host.taken).toEqual([]);
  for (const client of held) client.release();
  const { build } = await building;
  expect((await rig.ended(build.id)).status).toBe('passed');
});

const leaseMs = 15_000;

test('of three control planes under load one is killed and one frozen past its leases; nothing is lost or repeated', {
  timeout: 180_000,
}, async () => {
  const thawed = Promise.withResolvers<void>();
  const script: Script = async (run) => {
    if (run.assignment.work.kind === 'shell' && run.assignment.work.text === 'last') await thawed.promise;
    return talk(run);
  };
  const hosts = [scriptedHost(script), scriptedHost(script)];
  const planes = await threePlanes(hosts);
  const states = async () => (await rig.db.selectFrom('builds').select('status').execute()).map(({ status }) => status);
  const passed = (count: number) => Array.from({ length: count }, () => 'passed');
  const long = ir({ install: ['install'], last: ['last', 'install'] });
  for (const plane of planes) plane.build(rig.newBuild(long));
  for (let count = 0; count < 30; count += 1) planes[count % 3]?.build(rig.newBuild(graph));
  await expect.poll(async () => (await states()).length, { timeout: 60_000 }).toBe(33);

  const doomed = await holderOf(planes);
  await doomed.kill();
  const left = planes.filter((plane) => plane !== doomed);
  const frozen = await holderOf(left);
  const [other] = left.filter((plane) => plane !== frozen);
  frozen.freeze();
  await new Promise((resolve) => setTimeout(resolve, leaseMs + 2_000));
  const sorted = async () => (await states()).toSorted();
  await expect.poll(sorted, { timeout: 60_000 }).toEqual([...passed(30), 'running', 'running', 'running']);
  frozen.thaw();
  thawed.resolve();
  await expect.poll(states, { timeout: 60_000 }).toEqual(passed(33));

  await other?.kill();
  for (let count = 0; count < 3; count += 1) frozen.build(rig.newBuild(graph));
  await expect.poll(states, { timeout: 60_000 }).toEqual(passed(36));
  await expectOnce(
    hosts.flatMap(({ taken }) => taken),
    33 * 13 + 3 * 2,
  );
});

/** Control planes in processes of their own, each with all of these hosts. */
async function threePlanes(hosts: readonly ScriptedHost[]): Promise<readonly CrashPlane[]> {
  rig = await engineRig([]);
  await rig.engine.stop();
  const dir = await mkdtemp(join(tmpdir(), 'caisson-planes-'));
  cleanups.push(() => rm(dir, { recursive: true, force: true }));
  const hostSockets = hosts.map((_host, index) => join(dir, `host-${index}`));
  for (const [index, host] of hosts.entries()) {
    const served = await serveHostApi(host, { kind: 'socket', path: hostSockets[index] ?? '' });
    cleanups.push(() => served.close());
  }
  const { connectionString } = rig;
  const settings = { connectionString, hostSockets, blobDir: join(dir, 'blobs'), crashAt: null };
  const planes = await Promise.all([0, 1, 2].map(() => startPlane(settings)));
  cleanups.push(() => Promise.all(planes.map((plane) => plane.kill())).then(() => {}));
  return planes;
}

/** One of these that cares for a host, as soon as one does. */
async function holderOf(planes: readonly CrashPlane[]): Promise<CrashPlane> {
  const find = async () => {
    const { rows } = await sql<{ name: string }>`
      select application_name as name from pg_locks join pg_stat_activity using (pid)
      where locktype = 'advisory' and granted and datname = current_database()`.execute(rig.db);
    return planes.find(({ pid }) => rows.some(({ name }) => name === `caisson-lock ${pid}`));
  };
  return expect
    .poll(find, { timeout: 10_000 })
    .toBeDefined()
    .then(async () => (await find()) ?? holderOf(planes));
}
