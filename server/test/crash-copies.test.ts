import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serveHostApi } from '@caisson/contracts/host-server';
import { crashPointsIn } from '@caisson/contracts/test/crash-points-in';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { type Database, openDatabase } from '../store/database.ts';
import { startPlane } from './crash-plane.ts';
import { freshDatabase } from './database.ts';
import { ir } from './ir.ts';
import { addPipeline, newBuildOf } from './pipeline-scope.ts';
import { exited, type ScriptedHost, scriptedHost } from './scripted-host.ts';

const timeoutMs = 60_000;
const patience = { timeout: timeoutMs, interval: 100 };
const forks = ['one', 'two'];

const found = await crashPointsIn(new URL('../engine/', import.meta.url));
/** Every one on the way there, and when it is over, for the disk or its copy. */
const crashes = [
  ...found.filter((point) => point.startsWith('copy.')).map((point) => ({ point, hit: 1 })),
  ...[1, 2].map((hit) => ({ point: 'release.told', hit })),
];

test.for(crashes)(
  'a control plane killed at $point (time $hit) brings a disk to its other host all the same',
  { timeout: 2 * timeoutMs },
  async (crashAt, { task }) => {
    const directory = await mkdtemp(join(tmpdir(), 'caisson-crash-'));
    const { connectionString, drop } = await freshDatabase();
    const { db, close } = openDatabase(connectionString, 2);
    const hosts = twoSmallHosts();
    const served = await Promise.all(
      hosts.map((host, index) => serveHostApi(host, { kind: 'socket', path: join(directory, String(index)) })),
    );
    const hostSockets = hosts.map((_, index) => join(directory, String(index)));
    const settings = { connectionString, hostSockets, blobDir: join(directory, 'blobs') };
    const scope = await addPipeline(db);
    const plane = await startPlane({ ...settings, crashAt });
    const waits = setInterval(() => void letTimePass(db), 200);
    try {
      plane.build(
        newBuildOf(scope, { pipelineIr: ir({ base: ['base'], one: ['one', 'base'], two: ['two', 'base'] }) }),
      );
      expect(await plane.ended).toBe('SIGKILL');
      task.meta.killedAt = [crashAt];
      const next = await startPlane({ ...settings, crashAt: null });
      try {
        await expect
          .poll(() => db.selectFrom('builds').select('status').execute(), patience)
          .toEqual([{ status: 'passed' }]);
        await checkForks(db, hosts);
        await checkNothingLeft(db, hosts);
      } finally {
        await next.kill();
      }
      expect((await readdir(settings.blobDir)).filter((name) => name.startsWith('.tmp-'))).toEqual([]);
    } finally {
      clearInterval(waits);
      await plane.kill();
      for (const server of served) await server.close();
      await close();
      await drop();
      await rm(directory, { recursive: true, force: true });
    }
  },
);

/** Each has room for one job; the two forks wait for each other, so one of them has to go where the disk is not. */
function twoSmallHosts(): readonly ScriptedHost[] {
  const begun = new Set<string>();
  const bothBegun = Promise.withResolvers<void>();
  return [0, 1].map(() => {
    const host = scriptedHost(async ({ assignment: { work } }) => {
      const name = work.kind === 'shell' ? work.text : '';
      if (!forks.includes(name)) return exited(0);
      begun.add(name);
      if (begun.size === forks.length) bothBegun.resolve();
      await bothBegun.promise;
      return exited(0);
    });
    host.description = { ...host.description, capacity: { cpus: 1, memoryBytes: 2 ** 36, diskBytes: 2 ** 40 } };
    return host;
  });
}

/** What waits for a host has waited long. */
async function letTimePass(db: Database): Promise<void> {
  await sql`update jobs set scheduled_at = scheduled_at - interval '5 seconds' where status = 'scheduled'`
    .execute(db)
    .catch(() => {});
}

/** Each job ran once, the forks on a host each. */
async function checkForks(db: Database, hosts: readonly ScriptedHost[]): Promise<void> {
  const jobs = await db.selectFrom('jobs').select(['step_key', 'attempt']).orderBy('step_key').execute();
  expect(jobs).toEqual(['base', ...forks].map((step_key) => ({ step_key, attempt: 1 })));
  const forksOf = ({ taken }: ScriptedHost) =>
    taken.filter(({ work }) => work.kind === 'shell' && work.text !== 'base');
  expect(hosts.map((host) => forksOf(host).length)).toEqual([1, 1]);
  const layerIds = hosts.flatMap(({ taken }) => taken.flatMap(({ sealAs }) => sealAs ?? []));
  expect(new Set(hosts.flatMap(({ copied }) => copied))).toEqual(new Set(layerIds));
}

async function checkNothingLeft(db: Database, hosts: readonly ScriptedHost[]): Promise<void> {
  for (const table of ['layers', 'layer_copies'] as const)
    await expect.poll(() => db.selectFrom(table).selectAll().execute(), patience).toEqual([]);
  expect(hosts.every(({ released }) => released.length > 0)).toBe(true);
}
