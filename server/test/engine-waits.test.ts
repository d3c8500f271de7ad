import { sql } from 'kysely';
import { afterEach, expect, test } from 'vitest';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { ir } from './ir.ts';
import { exited, passAfter, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
afterEach(() => rig.close());

/** As if the jobs that wait had waited for that long. */
async function waitedMs(ms: number): Promise<void> {
  await sql`
    update jobs set scheduled_at = clock_timestamp() - ${ms} * interval '1 millisecond'
    where status = 'scheduled'`.execute(rig.db);
}

async function logOf(buildId: string, key: string): Promise<string> {
  const { rows } = await sql<{ text: string }>`
    select string_agg(convert_from(content, 'UTF8'), '' order by seq) as text
    from log_chunks join jobs on jobs.id = log_chunks.job_id
    where build_id = ${buildId} and step_key = ${key}`.execute(rig.db);
  return rows[0]?.text ?? '';
}

const refusesInTable = async () => (await rig.db.selectFrom('hosts').select('refuses').executeTakeFirst())?.refuses;

test('a host without room brings to an end what it has begun and takes nothing new until there is room', async () => {
  const go = Promise.withResolvers<void>();
  const host = scriptedHost(passAfter(go.promise, 'parent'));
  rig = await engineRig([host]);
  const { build: begun } = await rig.build(ir({ parent: ['parent'], child: ['child', 'parent'] }));
  await rig.until(begun.id, (_build, [first]) => first?.status !== 'pending' && first?.status !== 'scheduled');
  host.refuses = 'its disk has only 7 MiB left';
  await expect.poll(refusesInTable, { timeout: 10_000 }).toBe(host.refuses);
  const { build: waiting } = await rig.build(ir({ a: ['a'] }));
  go.resolve();
  expect((await rig.ended(begun.id)).status).toBe('passed');
  await waitedMs(20_000);
  await expect
    .poll(() => logOf(waiting.id, 'a'), { timeout: 10_000 })
    .toBe(
      '[caisson] waiting for a host: No host takes work right now. A host takes no new work: its disk has only 7 MiB left.\n',
    );
  host.refuses = null;
  expect((await rig.ended(waiting.id)).status).toBe('passed');
  expect(await refusesInTable()).toBeNull();
  expect(await logOf(waiting.id, 'a')).toMatch(/^\[caisson\] waiting for a host: [^\n]*\n$/);
});

test('more builds than there is room for wait with the reason in their log, and all pass in turn', async () => {
  const go = Promise.withResolvers<void>();
  const host = scriptedHost(passAfter(go.promise));
  rig = await engineRig([host]);
  const builds = await Promise.all(Array.from({ length: 40 }, () => rig.build(ir({ a: ['a'] }))));
  await expect.poll(() => host.taken.length, { timeout: 10_000 }).toBe(8);
  await waitedMs(20_000);
  const reasons = async () => Promise.all(builds.map(({ build }) => logOf(build.id, 'a')));
  const told = async () => (await reasons()).filter((text) => text.includes('Every host that could take it is busy.'));
  await expect.poll(async () => (await told()).length, { timeout: 10_000 }).toBe(32);
  expect((await told()).every((text) => text.trimEnd().split('\n').length === 1)).toBe(true);
  go.resolve();
  for (const { build } of builds) expect((await rig.ended(build.id)).status).toBe('passed');
  expect(host.taken).toHaveLength(40);
});

test('a thousand jobs that are ready at once all run on one host, each once', async () => {
  const host = scriptedHost(() => exited(0));
  const capacity = { cpus: 100, memoryBytes: 2 ** 40, diskBytes: 2 ** 40 };
  host.description = { ...host.description, capacity };
  rig = await engineRig([host]);
  const jobs = Array.from({ length: 1_000 }, (_, index) => [`job-${index}`, ['true']] as const);
  const { build } = await rig.build(ir(Object.fromEntries(jobs)));
  expect((await rig.ended(build.id, 110_000)).status).toBe('passed');
  expect(host.taken).toHaveLength(1_000);
}, 120_000);
