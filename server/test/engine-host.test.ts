import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import { afterEach, expect, test } from 'vitest';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { ir } from './ir.ts';
import { exited, passAfter, type ScriptedHost, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
afterEach(() => rig.close());

const single = ir({ only: ['work'] });

async function source(): Promise<string> {
  return (await rig.blobs.put(Readable.from([Buffer.from(randomUUID())]))).digest;
}

test('a large source on its way keeps no other job waiting, and its lease is kept', async () => {
  const arrived = Promise.withResolvers<void>();
  const host: ScriptedHost = Object.assign(
    scriptedHost(() => exited(0)),
    { hasBlob: async () => false, putBlob: () => arrived.promise },
  );
  rig = await engineRig([host]);
  const { build: slow } = await rig.build(single, { sourceDigest: await source() });
  await rig.until(slow.id, (_build, jobs) => jobs.some(({ status }) => status === 'assigned'));
  const { build: quick } = await rig.build(single);
  expect((await rig.ended(quick.id)).status).toBe('passed');
  // As good as over; the heartbeat of a host that answers renews it all the same.
  await rig.db.updateTable('leases').set({ expires_at: sql<Date>`clock_timestamp() + interval '7 seconds'` }).execute();
  const mark = await sql<{ at: Date }>`select clock_timestamp() + interval '8 seconds' as at`.execute(rig.db);
  await expect
    .poll(async () => (await rig.db.selectFrom('leases').select('expires_at').execute()).at(-1)?.expires_at, {
      timeout: 10_000,
    })
    .toSatisfy((expiresAt: Date) => expiresAt > (mark.rows[0]?.at ?? expiresAt));
  arrived.resolve();
  expect((await rig.ended(slow.id)).status).toBe('passed');
  expect((await rig.jobs(slow.id)).only?.attempt).toBe(1);
});

test('a source that is gone from the store fails its jobs with what to do', async () => {
  const host = Object.assign(
    scriptedHost(() => exited(0)),
    { hasBlob: async () => false },
  );
  rig = await engineRig([host]);
  const { build } = await rig.build(single, { sourceDigest: 'a'.repeat(64) });
  expect((await rig.ended(build.id)).status).toBe('failed');
  expect((await rig.jobs(build.id)).only).toMatchObject({ error_code: 'source_invalid', attempt: 1 });
});

test('a host that fails one call is handed the job again', async () => {
  let calls = 0;
  const host = scriptedHost(() => exited(0));
  const { startRun } = host;
  host.startRun = async (assignment) => {
    calls += 1;
    // The run began, the answer was lost.
    await startRun(assignment);
    if (calls === 1) throw new Error('the connection broke');
  };
  rig = await engineRig([host]);
  const { build } = await rig.build(single);
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect(host.taken).toHaveLength(1);
});

test('a job that its host has no room for goes back to the queue and loses no attempt', async () => {
  const host = scriptedHost(() => exited(0));
  host.isFull = true;
  rig = await engineRig([host]);
  const { build } = await rig.build(single);
  const leases = () => rig.db.selectFrom('leases').select('status').orderBy('fence').execute();
  await expect.poll(leases, { timeout: 30_000 }).toEqual([{ status: 'lost' }, { status: 'held' }]);
  host.isFull = false;
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect((await rig.jobs(build.id)).only).toMatchObject({ attempt: 1 });
  expect(host.taken).toHaveLength(1);
});

test('a host that was started anew with more room is given more', async () => {
  const go = Promise.withResolvers<void>();
  const host = scriptedHost(passAfter(go.promise));
  host.description = { ...host.description, capacity: { ...host.description.capacity, cpus: 1 } };
  let end = () => {};
  const { watch } = host;
  host.watch = (signal) => {
    const own = new AbortController();
    end = () => own.abort();
    return watch(AbortSignal.any([signal, own.signal]));
  };
  rig = await engineRig([host]);
  const { build } = await rig.build(ir({ a: ['a'], b: ['b'], c: ['c'] }));
  const running = (count: number) =>
    rig.until(build.id, (_build, jobs) => jobs.filter(({ status }) => status === 'running').length === count);
  await running(1);
  host.description = { ...host.description, capacity: { ...host.description.capacity, cpus: 3 } };
  end();
  await running(3);
  go.resolve();
  expect((await rig.ended(build.id)).status).toBe('passed');
});

test('jobs that wait for one host do not keep another idle', async () => {
  const [gone, host] = [scriptedHost(() => exited(0)), scriptedHost(() => exited(0))];
  rig = await engineRig([host]);
  const { build } = await rig.build(single);
  await rig.ended(build.id);
  // Very many older jobs whose parent's disk is on a host that does not answer just now.
  const id = await rig.db
    .insertInto('hosts')
    .values({
      ...{ id: gone.hostId, name: 'gone', driver: 'container', runtime: 'scripted', memory_snapshots: false },
      ...{
        cpus: 8,
        memory_bytes: 2 ** 36,
        disk_bytes: 2 ** 40,
        last_seen_at: sql<Date>`clock_timestamp() - interval '1 minute'`,
      },
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  const { build: blocked } = await rig.build(ir({ parent: ['parent'] }));
  await rig.ended(blocked.id);
  await sql`
    with parent as (select * from jobs where build_id = ${blocked.id}),
    layer as (
      insert into layers (id, organization_id, host_id, build_id, job_id)
      select gen_random_uuid(), organization_id, ${id.id}, build_id, id from parent returning id
    ), mark as (update jobs set layer_id = layer.id from layer, parent where jobs.id = parent.id)
    insert into jobs (id, organization_id, build_id, kind, position, step_key, status, command, builds_in, scheduled_at)
    select gen_random_uuid(), organization_id, build_id, 'step', n, 'child-' || n, 'scheduled', 'child', id, 'epoch'
    from parent, generate_series(1, 1200) n`.execute(rig.db);
  await rig.db
    .updateTable('builds')
    .set({ status: 'running', finished_at: null })
    .where('id', '=', blocked.id)
    .execute();
  const { build: free } = await rig.build(single);
  expect((await rig.ended(free.id, 5_000)).status).toBe('passed');
});

test('a host is given no more than it has, whoever places', async () => {
  let running = 0;
  let most = 0;
  const host = scriptedHost(async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, 20));
    running -= 1;
    return exited(0);
  });
  rig = await engineRig([host]);
  await rig.another();
  await rig.another();
  const steps = Object.fromEntries(Array.from({ length: 40 }, (_step, index) => [`s${index}`, ['s'] as const]));
  const builds = await Promise.all([rig.build(ir(steps)), rig.build(ir(steps))]);
  for (const { build } of builds) expect((await rig.ended(build.id)).status).toBe('passed');
  expect(most).toBeLessThanOrEqual(8);
  expect(host.taken).toHaveLength(80);
});

test('what a host says of a failure is stored whatever bytes are in it', async () => {
  rig = await engineRig([
    scriptedHost(() => ({ outcome: 'failed', code: 'source_invalid', message: 'bad \0 name \ud800!' })),
  ]);
  const { build } = await rig.build(single);
  await rig.ended(build.id);
  expect((await rig.jobs(build.id)).only?.error_message).toBe('bad  name \ufffd!');
});

test('a build that cannot be changed does not keep the others of its host', async () => {
  const go = Promise.withResolvers<void>();
  const host = scriptedHost(passAfter(go.promise));
  rig = await engineRig([host]);
  const [broken, whole] = [await rig.build(single), await rig.build(single)];
  for (const { build } of [broken, whole]) {
    await rig.until(build.id, (_build, jobs) => jobs.every(({ status }) => status === 'running'));
  }
  // No state describes this row.
  await sql`update jobs set scheduled_at = null where build_id = ${broken.build.id}`.execute(rig.db);
  go.resolve();
  expect((await rig.ended(whole.build.id)).status).toBe('passed');
  await sql`update jobs set scheduled_at = now() where build_id = ${broken.build.id}`.execute(rig.db);
  host.wipe();
});

test('a host that has missed a heartbeat is given no new job, and keeps what it has', async () => {
  const hosts = [scriptedHost(() => exited(0)), scriptedHost(() => exited(0))];
  rig = await engineRig(hosts);
  await expect.poll(() => rig.db.selectFrom('hosts').select('id').execute()).toHaveLength(2);
  const [silent, other] = hosts;
  if (silent === undefined || other === undefined) return;
  silent.isCutOff = true;
  const isSilent = sql<boolean>`last_seen_at < clock_timestamp() - interval '8 seconds'`;
  const silence = () => rig.db.selectFrom('hosts').select('id').where(isSilent).execute();
  await expect.poll(silence, { timeout: 20_000 }).toEqual([{ id: silent.hostId }]);
  const { build } = await rig.build(ir(Object.fromEntries(Array.from({ length: 6 }, (_, at) => [`j${at}`, ['work']]))));
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect(Object.values(await rig.jobs(build.id)).map(({ attempt }) => attempt)).toEqual(Array(6).fill(1));
  expect(other.taken).toHaveLength(6);
  silent.isCutOff = false;
});

test('a control plane that stops has told the host what is stored of it', async () => {
  const host = scriptedHost(() => exited(0));
  const [mayAnswer, asked] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { acknowledge } = host;
  host.acknowledge = async (acks) => {
    asked.resolve();
    await mayAnswer.promise;
    return acknowledge(acks);
  };
  rig = await engineRig([host]);
  const { build } = await rig.build(single);
  expect((await rig.ended(build.id)).status).toBe('passed');
  await asked.promise;
  const stopped = rig.engine.stop().then(() => 'stopped');
  expect(await Promise.race([stopped, delay(1_000, 'waits')])).toBe('waits');
  mayAnswer.resolve();
  await stopped;
  expect((await host.heartbeat()).leases).toEqual([]);
});
