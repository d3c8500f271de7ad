import { randomUUID } from 'node:crypto';
import { AppError } from '@caisson/contracts/app-error';
import { atMost } from '@caisson/contracts/at-most';
import type { DriverCapabilities, LayerCopy } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import { afterEach, expect, test } from 'vitest';
import { type BringLink, bringLayer } from '../engine/bring-layer.ts';
import { forgetLayerBlobs } from '../engine/forget-layer-blobs.ts';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { exited, type ScriptedHost, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
afterEach(() => rig.close());

const container: DriverCapabilities = { driver: 'container', runtime: 'scripted', memorySnapshots: false };
const machine: DriverCapabilities = { driver: 'microvm', runtime: 'scripted 1', memorySnapshots: true };

/** A host with room for one job; `base` ends at once, the others when `go` says so. */
function smallHost(go: Promise<void>, driver = container): ScriptedHost {
  const host = scriptedHost(async ({ assignment: { work } }) => {
    if (work.kind === 'shell' && work.text !== 'base') await go;
    return exited(0);
  });
  host.description = { ...host.description, driver, capacity: { cpus: 1, memoryBytes: 2 ** 36, diskBytes: 2 ** 40 } };
  return host;
}

const pipeline = (base: object = {}) =>
  JSON.stringify({
    version: '0',
    steps: [{ key: 'base', ...base }, ...['one', 'two'].map((key) => ({ key, builds_in: 'base' }))].map((step) => ({
      type: 'command',
      cmd: step.key,
      ...step,
    })),
  });

const states = async (buildId: string) =>
  Object.fromEntries(Object.entries(await rig.jobs(buildId)).map(([key, { status }]) => [key, status]));

/** What waits for a host has waited long. */
async function letTimePass(): Promise<void> {
  await sql`update jobs set scheduled_at = scheduled_at - interval '1 minute' where status = 'scheduled'`.execute(
    rig.db,
  );
}

/** A build whose first job ran on the first host and one of whose others keeps it busy; the last one waits. */
async function begun(
  hosts: { readonly first: ScriptedHost; readonly others: readonly ScriptedHost[] },
  ir = pipeline(),
) {
  rig = await engineRig([hosts.first]);
  const { build } = await rig.build(ir);
  await rig.until(build.id, (_, jobs) => jobs.some(({ status }) => status === 'running'));
  for (const host of hosts.others) rig.engine.attachHost(host);
  const registered = () => rig.db.selectFrom('hosts').select('id').where('last_seen_at', 'is not', null).execute();
  await expect.poll(async () => (await registered()).length, { timeout: 10_000 }).toBe(1 + hosts.others.length);
  return build.id;
}

const logText = async (): Promise<string> => {
  const { rows } = await sql<{ text: string | null }>`
    select string_agg(convert_from(content, 'UTF8'), '') as text from log_chunks`.execute(rig.db);
  return rows[0]?.text ?? '';
};

const patience = { timeout: 15_000 };

test('a job whose disk is on a busy host is given to another one after a moment, with its disk', async () => {
  const go = Promise.withResolvers<void>();
  const [first, other] = [smallHost(go.promise), smallHost(go.promise)];
  const buildId = await begun({ first, others: [other] });
  await letTimePass();
  await expect.poll(() => other.taken.length, patience).toBe(1);
  const layerId = first.taken[0]?.sealAs ?? '';
  expect(other.copied).toEqual([layerId]);
  expect(other.taken[0]).toMatchObject({ base: { layerId }, sourceDigest: null });
  expect(await logText()).toContain('the disk is brought to another one');
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
  expect(Object.values(await rig.jobs(buildId)).map(({ attempt }) => attempt)).toEqual([1, 1, 1]);
  // Both are told when nobody needs it any more, and nothing of it is left in the tables.
  await expect.poll(() => [first.released, other.released], patience).toEqual([[layerId], [layerId]]);
  await expect.poll(() => rig.db.selectFrom('layer_copies').selectAll().execute(), patience).toEqual([]);
});

test('a job waits for the host with its disk for a moment before that is brought to another one', async () => {
  const go = Promise.withResolvers<void>();
  const [first, other] = [smallHost(go.promise), smallHost(go.promise)];
  const buildId = await begun({ first, others: [other] });
  await sql`update jobs set scheduled_at = clock_timestamp() + interval '1 hour' where status = 'scheduled'`.execute(
    rig.db,
  );
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
  expect(other.taken).toEqual([]);
});

test('memory goes only to a host of the same runtime, a disk only to one of the same driver', async () => {
  const go = Promise.withResolvers<void>();
  const first = smallHost(go.promise, machine);
  const newer = smallHost(go.promise, { ...machine, runtime: 'scripted 2' });
  const [twin, foreign] = [smallHost(go.promise, machine), smallHost(go.promise)];
  const buildId = await begun({ first, others: [foreign, newer] }, pipeline({ snapshot: 'memory' }));
  await letTimePass();
  await expect.poll(logText, patience).toContain('waiting for a host: Every host that could take it is busy.');
  expect([foreign.taken, newer.taken]).toEqual([[], []]);
  rig.engine.attachHost(twin);
  await expect.poll(() => twin.taken.length, patience).toBe(1);
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
});

test('a host that cannot use a disk is passed over, and the job loses no attempt', async () => {
  const go = Promise.withResolvers<void>();
  const [first, useless] = [smallHost(go.promise), smallHost(go.promise)];
  useless.putLayer = () => Promise.reject(new AppError('snapshot_failed', 'another processor'));
  const buildId = await begun({ first, others: [useless] });
  await letTimePass();
  const refused = () =>
    rig.db.selectFrom('layer_copies').select('host_id').where('refused_at', 'is not', null).execute();
  await expect.poll(refused, patience).toEqual([{ host_id: useless.hostId }]);
  await expect.poll(() => states(buildId), patience).toMatchObject({ two: 'scheduled' });
  const other = smallHost(go.promise);
  rig.engine.attachHost(other);
  await expect.poll(() => other.taken.length, patience).toBe(1);
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
  expect(useless.taken).toEqual([]);
  expect(Object.values(await rig.jobs(buildId)).map(({ attempt }) => attempt)).toEqual([1, 1, 1]);
});

test('what was brought once can be brought again when the host that made it is gone', async () => {
  const go = Promise.withResolvers<void>();
  const [first, second, third] = [smallHost(go.promise), smallHost(go.promise), smallHost(Promise.resolve())];
  const buildId = await begun({ first, others: [second] });
  await letTimePass();
  await expect.poll(() => second.taken.length, patience).toBe(1);
  await loseHosts([first, second], '1 minute');
  rig.engine.attachHost(third);
  expect((await rig.ended(buildId, 60_000)).status).toBe('passed');
  expect(third.copied).toEqual([first.taken[0]?.sealAs]);
  expect(third.taken).toHaveLength(2);
});

/** The second of two hosts is being given a disk, until `arrive` is called. */
async function beingBrought(go: Promise<void>) {
  const [first, second] = [smallHost(go), smallHost(go)];
  const { promise: arrival, resolve: arrive } = Promise.withResolvers<void>();
  const { promise: sent, resolve: hasSent } = Promise.withResolvers<void>();
  const { putLayer } = second;
  second.putLayer = async (layer, bytes) => {
    hasSent();
    await arrival;
    await putLayer(layer, bytes);
  };
  const buildId = await begun({ first, others: [second] });
  await letTimePass();
  await sent;
  return { second, arrive, buildId };
}

const leaseOn = ({ hostId }: ScriptedHost) =>
  rig.db.selectFrom('leases').selectAll().where('host_id', '=', hostId).where('status', '=', 'held');

test('a job whose lease ended while its disk was brought is not begun', async () => {
  const go = Promise.withResolvers<void>();
  const { second, arrive, buildId } = await beingBrought(go.promise);
  const { id } = await leaseOn(second).executeTakeFirstOrThrow();
  const started: string[] = [];
  const { startRun } = second;
  second.startRun = (assignment) => {
    started.push(assignment.leaseId);
    return startRun(assignment);
  };
  second.isCutOff = true;
  const lease = rig.db
    .updateTable('leases')
    .where('id', '=', id)
    .set({ expires_at: new Date(0) });
  const status = async () => (await lease.returning('status').executeTakeFirstOrThrow()).status;
  await expect.poll(status, patience).toBe('lost');
  arrive();
  const arrived = rig.db.selectFrom('layer_copies').select('host_id').where('arrived_at', 'is not', null);
  await expect.poll(() => arrived.execute(), patience).toEqual([{ host_id: second.hostId }]);
  second.isCutOff = false;
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
  expect(started).not.toContain(id);
});

test('a job canceled while its disk is brought is ended when that is there', async () => {
  const go = Promise.withResolvers<void>();
  const { second, arrive, buildId } = await beingBrought(go.promise);
  const { cancelRun } = second;
  const ended: string[] = [];
  second.cancelRun = (lease, reason) => {
    ended.push(reason);
    return cancelRun(lease, reason);
  };
  await rig.engine.cancelBuild(buildId);
  arrive();
  await expect.poll(() => ended, patience).toEqual(['canceled']);
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('canceled');
});

test('a capsule has all its time to come up from when its disk is there', async () => {
  const go = Promise.withResolvers<void>();
  const { second, arrive, buildId } = await beingBrought(go.promise);
  const { startRun } = second;
  second.startRun = () => Promise.reject(new Error('not yet'));
  const { id } = await leaseOn(second).executeTakeFirstOrThrow();
  await sql`update leases set due_at = due_at - interval '19 minutes' where id = ${id}`.execute(rig.db);
  const leftMs = async () => {
    const { due_at } = await leaseOn(second).where('id', '=', id).executeTakeFirstOrThrow();
    return (due_at?.getTime() ?? 0) - Date.now();
  };
  expect(await leftMs()).toBeLessThan(2 * 60_000);
  arrive();
  await expect.poll(leftMs, patience).toBeGreaterThan(18 * 60_000);
  second.startRun = startRun;
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
});

const sealed = (copyId: string, below: readonly string[] = []): LayerCopy => ({
  ...{ copyId, kind: 'sealed', driver: 'container', below },
});
const image = (copyId: string): LayerCopy => ({ copyId, kind: 'image', driver: 'container', below: [] });

/** A disk on one host that no other one has been given yet, and the means to do so. */
async function keptByOne() {
  const [first, second] = [smallHost(new Promise(() => {})), smallHost(new Promise(() => {}))];
  await begun({ first, others: [] });
  const hosts = new Map([[first.hostId, first]]);
  const deps = { db: rig.db, layerBlobs: rig.layerBlobs, hosts };
  const link: BringLink = { deps, host: second, hostId: second.hostId, signal: new AbortController().signal };
  const layerId = first.taken[0]?.sealAs ?? '';
  return { first, second, layerId, bring: () => bringLayer(link, { layerId, isForMemory: false }) };
}

test('nothing is stored of a host that says of a disk what cannot be', async () => {
  const { first, layerId, bring } = await keptByOne();
  const other = randomUUID();
  const lies: readonly (readonly LayerCopy[])[] = [
    [sealed(other)],
    [sealed(layerId, [other]), sealed(other)],
    [sealed(layerId), image('copy-a')],
    [sealed(layerId, ['copy-a']), sealed(layerId, ['copy-a'])],
    [sealed(layerId, ['copy-a', 'copy-b']), image('copy-b'), image('copy-a')],
    [sealed(layerId, ['minimal']), image('minimal')],
    [image(layerId)],
    [],
  ];
  for (const stack of lies) {
    first.describeLayer = async () => stack;
    await expect(bring()).rejects.toMatchObject({ code: 'snapshot_missing', cause: { code: 'snapshot_failed' } });
  }
  expect(await storedIds()).toEqual([]);
  first.describeLayer = async () => stackOnImage(layerId);
  await bring();
  expect(await storedIds()).toEqual([layerId, 'copy-image'].toSorted());
});

test('a stored layer that does not hash to its digest is packed anew, and none because a host says so', async () => {
  const { second, layerId, bring } = await keptByOne();
  const { putLayer } = second;
  second.putLayer = () => Promise.reject(new AppError('blob_digest_mismatch', 'so it says'));
  await expect(bring()).rejects.toMatchObject({ code: 'blob_digest_mismatch' });
  expect(await storedIds()).toEqual([layerId]);
  second.putLayer = putLayer;
  const { layerBlobs } = rig;
  const { read } = layerBlobs;
  layerBlobs.read = async function* () {
    yield Buffer.from('torn');
  };
  await expect(bring()).rejects.toMatchObject({ code: 'blob_digest_mismatch' });
  expect(await storedIds()).toEqual([]);
  layerBlobs.read = read;
  await bring();
  expect(second.copied).toEqual([layerId]);
});

test('a host that sends without end is not listened to for longer than a layer may be long', async () => {
  let sentBytes = 0;
  async function* endless() {
    for (;;) {
      sentBytes += 1024;
      yield new Uint8Array(1024);
    }
  }
  const { first, bring } = await keptByOne();
  const { layerBlobs } = rig;
  const tooLarge = () => new AppError('payload_too_large', 'more than a layer may have');
  await expect(layerBlobs.put(atMost(endless(), 10_000, tooLarge))).rejects.toMatchObject({
    code: 'payload_too_large',
  });
  expect(sentBytes).toBe(10 * 1024);
  // A chunk that says it is longer than it is, in place of so many.
  first.readLayer = async function* () {
    yield Object.defineProperty(new Uint8Array(1), 'length', { value: 2 ** 37 });
  };
  await expect(bring()).rejects.toMatchObject({ code: 'payload_too_large' });
  expect([await storedIds(), await layerBlobs.list()]).toEqual([[], []]);
});

test('what is stored of an image counts as used when a disk on it is stored', async () => {
  const { first, second, layerId, bring } = await keptByOne();
  first.describeLayer = async () => stackOnImage(layerId);
  await bring();
  await rig.db.deleteFrom('layer_blobs').where('copy_id', '=', layerId).execute();
  await sql`update layer_blobs set used_at = used_at - interval '2 days'`.execute(rig.db);
  second.hasLayer = async () => false;
  await bring();
  const old = sql<boolean>`used_at < clock_timestamp() - interval '1 day'`;
  expect(await rig.db.selectFrom('layer_blobs').select('copy_id').where(old).execute()).toEqual([]);
});

test('a host that is detached is asked for no disk any more', async () => {
  const second = smallHost(Promise.resolve());
  const go = Promise.withResolvers<void>();
  const maker = smallHost(go.promise);
  rig = await engineRig([]);
  const { detach } = rig.engine.attachHost(maker);
  const { build } = await rig.build(pipeline());
  await rig.until(build.id, (_, jobs) => jobs.some(({ status }) => status === 'running'));
  const asked: string[] = [];
  maker.describeLayer = async (layerId) => {
    asked.push(layerId);
    return [sealed(layerId)];
  };
  await detach();
  rig.engine.attachHost(second);
  await letTimePass();
  const refused = rig.db.selectFrom('layer_copies').select('host_id').where('refused_at', 'is not', null);
  await expect.poll(() => refused.execute(), patience).toEqual([{ host_id: second.hostId }]);
  expect(asked).toEqual([]);
  go.resolve();
  rig.engine.attachHost(maker);
  expect((await rig.ended(build.id)).status).toBe('passed');
});

/** As much of the engine as looks after what is stored. */
const forget = () => forgetLayerBlobs({ db: rig.db, layerBlobs: rig.layerBlobs, nowMs: Date.now });

const storedIds = async () =>
  (await rig.db.selectFrom('layer_blobs').select('copy_id').orderBy('copy_id').execute()).map(({ copy_id }) => copy_id);

/** A disk on an image, brought to the second of two hosts; `two` waits. */
async function brought(go: Promise<void>) {
  const hosts = [smallHost(go), smallHost(go)] as const;
  const [first, second] = hosts;
  first.describeLayer = async (layerId) => stackOnImage(layerId);
  const buildId = await begun({ first, others: [second] });
  await letTimePass();
  await expect.poll(() => second.taken.length, patience).toBe(1);
  return { hosts, buildId, layerId: first.taken[0]?.sealAs ?? '' };
}

const stackOnImage = (layerId: string) => [sealed(layerId, ['copy-image']), image('copy-image')];

/** Both runs are lost with their hosts, which nobody has heard of for this long. */
async function loseHosts(hosts: readonly ScriptedHost[], since: string): Promise<void> {
  for (const host of hosts) {
    host.isCutOff = true;
    host.describeLayer = () => Promise.reject(new Error('gone'));
  }
  await sql`update hosts set last_seen_at = clock_timestamp() - ${since}::interval`.execute(rig.db);
  await sql`update leases set expires_at = clock_timestamp() - interval '1 minute' where status = 'held'`.execute(
    rig.db,
  );
}

test('the image below a stored disk stays as long as that, and goes when nothing on it is stored', async () => {
  const go = Promise.withResolvers<void>();
  const { buildId, layerId } = await brought(go.promise);
  await sql`update layer_blobs set used_at = used_at - interval '2 days'`.execute(rig.db);
  await forget();
  expect(await storedIds()).toEqual([layerId, 'copy-image'].toSorted());
  go.resolve();
  expect((await rig.ended(buildId)).status).toBe('passed');
  await sql`update layers set released_at = clock_timestamp()`.execute(rig.db);
  await forget();
  await forget();
  expect(await storedIds()).toEqual([]);
});

test('a job whose disk is stored in part only ends when the host that made it is gone for good', async () => {
  const { hosts, buildId } = await brought(new Promise(() => {}));
  await rig.db
    .updateTable('layer_blobs')
    .set({ digest: '0'.repeat(64) })
    .where('copy_id', '=', 'copy-image')
    .execute();
  await loseHosts(hosts, '1 hour');
  const third = smallHost(Promise.resolve());
  rig.engine.attachHost(third);
  await sql`update jobs set scheduled_at = scheduled_at - interval '1 minute' where status = 'scheduled'`.execute(
    rig.db,
  );
  expect((await rig.ended(buildId, 60_000)).status).toBe('failed');
  expect((await rig.jobs(buildId)).two?.error_code).toBe('snapshot_missing');
  expect(third.taken).toEqual([]);
});

test('a job whose disk is stored ends when no host that could be given it was heard for long', async () => {
  const { hosts, buildId } = await brought(new Promise(() => {}));
  await loseHosts(hosts, '1 hour');
  rig.engine.attachHost(smallHost(Promise.resolve(), machine));
  expect((await rig.ended(buildId, 60_000)).status).toBe('failed');
  expect((await rig.jobs(buildId)).two?.error_code).toBe('snapshot_missing');
});
