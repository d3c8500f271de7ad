import type { HostDescription } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import { afterEach, expect, test } from 'vitest';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { exited, type ScriptedHost, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
afterEach(() => rig.close());

/** A chain of four with a branch; `db` is to be kept with its memory. */
const pipelineIr = JSON.stringify({
  version: '0',
  steps: [
    { key: 'base' },
    { key: 'db', builds_in: 'base', snapshot: 'memory' },
    { key: 'one', builds_in: 'db' },
    { key: 'two', builds_in: 'one' },
  ].map((step) => ({ type: 'command', cmd: step.key, ...step })),
});

function hostWith(description: Partial<HostDescription>): ScriptedHost {
  const host = scriptedHost(() => exited(0));
  host.description = { ...host.description, ...description };
  return host;
}

const driver = { driver: 'microvm', runtime: 'scripted', memorySnapshots: true } as const;
const small = { cpus: 2, memoryBytes: 2 ** 36, diskBytes: 2 ** 40 };
const registered = async (count: number) => {
  const hosts = () => rig.db.selectFrom('hosts').select('id').where('last_seen_at', 'is not', null).execute();
  await expect.poll(async () => (await hosts()).length, { timeout: 10_000 }).toBe(count);
};

test('a snapshot with memory is made and used where that can be, though another host has more room', async () => {
  const large = hostWith({});
  const able = hostWith({ driver, capacity: small });
  rig = await engineRig([large, able]);
  await registered(2);
  const { build } = await rig.build(pipelineIr);
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect(large.taken).toEqual([]);
  const [base, db, one, two] = able.taken;
  expect(able.taken.map(({ work }) => work)).toMatchObject(['base', 'db', 'one', 'two'].map((text) => ({ text })));
  expect(base).not.toHaveProperty('snapshot');
  expect(db).toMatchObject({ base: { layerId: base?.sealAs }, snapshot: 'memory' });
  expect(db?.base).not.toHaveProperty('snapshot');
  expect(one).toMatchObject({ base: { layerId: db?.sealAs, snapshot: 'memory' } });
  expect(one).not.toHaveProperty('snapshot');
  // What grows out of a disk that was kept alone starts from that.
  expect(two?.base).toEqual({ layerId: one?.sealAs });
});

test('where no host can keep memory the build waits, its log says why, and it goes on when one comes', async () => {
  const host = hostWith({});
  rig = await engineRig([host]);
  await registered(1);
  const { build } = await rig.build(pipelineIr);
  await sql`
    update jobs set scheduled_at = clock_timestamp() - interval '20 seconds' where status = 'scheduled'`.execute(
    rig.db,
  );
  const log = async () => {
    const { rows } = await sql<{ text: string | null }>`
      select string_agg(convert_from(content, 'UTF8'), '') as text from log_chunks`.execute(rig.db);
    return rows[0]?.text ?? '';
  };
  await expect
    .poll(log, { timeout: 10_000 })
    .toContain('waiting for a host: This step, or one that builds in it, is to keep its memory');
  expect(await log()).toContain('--driver microvm');
  const able = hostWith({ driver, capacity: small });
  rig.engine.attachHost(able);
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect(host.taken).toEqual([]);
  expect(able.taken).toHaveLength(4);
});
