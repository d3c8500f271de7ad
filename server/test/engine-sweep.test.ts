import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { afterEach, expect, test } from 'vitest';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { ir } from './ir.ts';
import { exited, passAfter, type Script, type ScriptedHost, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
let host: ScriptedHost;
afterEach(() => rig.close());

async function start(script: Script): Promise<void> {
  host = scriptedHost(script);
  rig = await engineRig([host]);
}

const single = ir({ only: ['work'] });
const untilCanceled: Script = async ({ canceled }) => ({
  outcome: (await canceled) === 'timed_out' ? 'timed_out' : 'canceled',
});

async function running(buildId: string): Promise<void> {
  await rig.until(buildId, (_build, jobs) => jobs.every(({ status }) => status === 'running'));
}

test('a rendered build whose effect was lost is planned all the same', async () => {
  await start(({ assignment, print }) => {
    if (assignment.work.kind === 'render') print(single);
    return exited(0);
  });
  await sql`
    create function lose() returns trigger language plpgsql as 'begin return null; end';
    create trigger lose before insert on pgboss.job for each row execute function lose()`.execute(rig.db);
  const { build } = await rig.build(null, { sourceDigest: 'a'.repeat(64) });
  expect((await rig.ended(build.id)).status).toBe('passed');
});

test('a rendering that was lost in the middle of its output is read from its last attempt', async () => {
  let attempts = 0;
  await start(async ({ assignment, print, canceled }) => {
    if (assignment.work.kind === 'render') {
      attempts += 1;
      print(attempts === 1 ? single.slice(0, 10) : single);
      if (attempts === 1) await canceled;
    }
    return exited(0);
  });
  const building = rig.build(null, { sourceDigest: 'a'.repeat(64) });
  await expect.poll(() => rig.db.selectFrom('log_chunks').select('seq').execute()).toHaveLength(1);
  await expect
    .poll(() => rig.db.selectFrom('leases').select('id').where('dispatched_at', 'is not', null).execute())
    .toHaveLength(1);
  host.wipe();
  const { build, rejection } = await building;
  expect(rejection).toBeNull();
  expect((await rig.ended(build.id)).status).toBe('passed');
});

test('an open build with nothing under way is looked at again', async () => {
  await start(() => exited(0));
  await rig.engine.stopPlacing();
  const { build } = await rig.build(ir({ first: ['first'], second: ['second', 'first'] }));
  // As if what follows from the first job's end had been forgotten.
  await sql`
    update jobs set status = 'failed', finished_at = now(), exit_code = 1
    where build_id = ${build.id} and step_key = 'first'`.execute(rig.db);
  expect((await rig.ended(build.id)).status).toBe('failed');
  expect((await rig.jobs(build.id)).second?.status).toBe('skipped');
});

test('a capsule without a lease gives its room back', async () => {
  await start(() => exited(0));
  const { build } = await rig.build(single);
  await rig.ended(build.id);
  await rig.db
    .insertInto('capsules')
    .values({
      ...{ id: randomUUID(), organization_id: rig.organizationId, host_id: host.hostId, owner_kind: 'job' },
      ...{ owner_id: randomUUID(), status: 'running', cpus: 8, memory_bytes: 1, disk_bytes: 1 },
      created_at: sql<Date>`clock_timestamp() - interval '1 minute'`,
    })
    .execute();
  const { build: next } = await rig.build(single);
  expect((await rig.ended(next.id)).status).toBe('passed');
});

test('a disk sealed under a lease that was lost is given back to its host', async () => {
  const go = Promise.withResolvers<void>();
  let attempts = 0;
  await start(async () => {
    attempts += 1;
    if (attempts === 1) await go.promise;
    return exited(0);
  });
  const { build } = await rig.build(ir({ parent: ['parent'], child: ['child', 'parent'] }));
  await rig.until(build.id, (_build, jobs) => jobs.some(({ status }) => status === 'running'));
  await sql`update leases set expires_at = 'epoch' where status = 'held'`.execute(rig.db);
  expect((await rig.ended(build.id)).status).toBe('passed');
  go.resolve();
  const lost = host.taken[0]?.leaseId;
  await expect.poll(() => host.released, { timeout: 10_000 }).toContain(lost);
});

test('a job whose host does not end it in time is ended', async () => {
  await start(untilCanceled);
  const { build } = await rig.build(single);
  await running(build.id);
  await sql`update leases set due_at = 'epoch'`.execute(rig.db);
  expect((await rig.ended(build.id)).status).toBe('failed');
  expect((await rig.jobs(build.id)).only).toMatchObject({ status: 'timed_out', error_code: 'step_timeout' });
});

test('a run that does not begin in time is tried again', async () => {
  let calls = 0;
  await start(() => exited(0));
  const { startRun } = host;
  host.startRun = async (assignment) => {
    calls += 1;
    if (calls === 1) throw new Error('not now');
    await startRun(assignment);
  };
  await rig.engine.stopPlacing();
  const { build } = await rig.build(single);
  const other = await rig.another();
  await rig.until(build.id, (_build, jobs) => jobs.every(({ attempt }) => attempt === 1));
  await sql`update leases set due_at = 'epoch'`.execute(rig.db);
  expect((await rig.ended(build.id)).status).toBe('passed');
  await other.stopPlacing();
});

test('a stop that a host never confirms ends by itself', async () => {
  await start(() => new Promise(() => {}));
  const { build } = await rig.build(single);
  await running(build.id);
  await rig.engine.cancelBuild(build.id);
  await rig.until(build.id, (_build, jobs) => jobs.every(({ status }) => status === 'canceling'));
  await sql`update leases set due_at = 'epoch'`.execute(rig.db);
  expect((await rig.ended(build.id)).status).toBe('canceled');
  host.wipe();
});

test.each([
  ['an outage or a clock set forward by an hour', '- interval'],
  ['a clock set back by an hour', '+ interval'],
])('%s costs no lease, no disk and no build', async (_title, shift) => {
  const go = Promise.withResolvers<void>();
  await start(passAfter(go.promise, 'child'));
  // The first look forgives the time since this database was made, which is not what is to be forgiven here.
  const hasLooked = sql<boolean>`clock_timestamp() - looked_at < interval '2 seconds'`;
  await expect.poll(() => rig.db.selectFrom('watch').select(hasLooked.as('so')).execute()).toEqual([{ so: true }]);
  const steps = { parent: ['parent'], child: ['child', 'parent'] } as const;
  const { build } = await rig.build(ir(steps, { timeout_seconds: 600 }));
  await rig.until(build.id, (_build, jobs) => jobs.some((job) => job.step_key === 'child' && job.status === 'running'));
  // What was written by a clock an hour away from now, all of it.
  const by = sql.raw(`${shift} '1 hour'`);
  await rig.db.transaction().execute(async (tx) => {
    await sql`update watch set looked_at = looked_at ${by}`.execute(tx);
    await sql`update leases set expires_at = expires_at ${by}, due_at = due_at ${by}`.execute(tx);
    await sql`update hosts set last_seen_at = last_seen_at ${by}`.execute(tx);
    await sql`update builds set deadline_at = deadline_at ${by}`.execute(tx);
  });
  const aboutNow = sql<boolean>`abs(extract(epoch from expires_at - clock_timestamp())) < 20`;
  await expect
    .poll(() => rig.db.selectFrom('leases').select(aboutNow.as('so')).where('status', '=', 'held').execute())
    .toEqual([{ so: true }]);
  const isInTime = sql<boolean>`extract(epoch from deadline_at - clock_timestamp()) between 500 and 600`;
  // The lease may have been renewed before the look that moves both.
  await expect.poll(() => rig.db.selectFrom('builds').select(isInTime.as('so')).execute()).toEqual([{ so: true }]);
  go.resolve();
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect((await rig.jobs(build.id)).child?.attempt).toBe(1);
});

test.each([
  ['forward', '- interval'],
  ['back', '+ interval'],
])('a lease renewed between a clock set %s and the next look is held no less and no longer', async (_title, shift) => {
  await start(untilCanceled);
  const { build } = await rig.build(single);
  await running(build.id);
  const by = sql.raw(`${shift} '1 hour'`);
  host.isCutOff = true;
  // The lease is by the new clock, and the look by the old one.
  await sql`
    with looked as (update watch set looked_at = looked_at ${by})
    update leases set expires_at = clock_timestamp() + interval '14 seconds'`.execute(rig.db);
  const isDone = sql<boolean>`abs(extract(epoch from looked_at - clock_timestamp())) < 20`;
  await expect.poll(() => rig.db.selectFrom('watch').select(isDone.as('so')).execute()).toEqual([{ so: true }]);
  const isRight = sql<boolean>`extract(epoch from expires_at - clock_timestamp()) between 5 and 15`;
  expect(await rig.db.selectFrom('leases').select(isRight.as('so')).execute()).toEqual([{ so: true }]);
  host.isCutOff = false;
  await rig.engine.cancelBuild(build.id);
  expect((await rig.ended(build.id)).status).toBe('canceled');
});

test('after a start that ends an outage every host has a whole lease to be heard again', async () => {
  await start(untilCanceled);
  const { build } = await rig.build(single);
  await running(build.id);
  await rig.engine.stop();
  await sql`update leases set expires_at = clock_timestamp() + interval '2 seconds'`.execute(rig.db);
  await sql`update watch set looked_at = clock_timestamp() - interval '2 seconds'`.execute(rig.db);
  host.isCutOff = true;
  const next = await rig.another();
  const isKept = sql<boolean>`expires_at > clock_timestamp() + interval '10 seconds'`;
  await expect.poll(() => rig.db.selectFrom('leases').select(isKept.as('so')).execute()).toEqual([{ so: true }]);
  host.isCutOff = false;
  await next.cancelBuild(build.id);
  expect((await rig.ended(build.id)).status).toBe('canceled');
});
