import { randomUUID } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunAssignment } from '@caisson/contracts/host-api';
import { expect, onTestFinished, test } from 'vitest';
import { openFinishedLeases } from '../finished-leases.ts';
import { openScriptedHost, type ScriptedHost } from './scripted-host.ts';
import { tempDir } from './temp-dir.ts';

async function tempRing() {
  const path = join(await tempDir(), 'leases');
  const open = async () => {
    const leases = await openFinishedLeases(path);
    onTestFinished(() => leases.close());
    return leases;
  };
  return { path, open };
}

test('the next process knows the last ten thousand leases, in a file that does not grow', async () => {
  const { path, open } = await tempRing();
  const first = await open();
  const sizeBytes = (await readFile(path)).length;
  const ids = Array.from({ length: 10_003 }, () => randomUUID());
  for (const id of ids.slice(0, 9_999)) await first.add(id);
  // The process is killed: nothing is closed.
  const second = await open();
  for (const id of ids.slice(9_999)) await second.add(id);
  const known = [...ids.slice(0, 3).map(() => false), ...ids.slice(3).map(() => true)];
  expect(ids.map(second.has)).toEqual(known);
  expect(ids.map((await open()).has)).toEqual(known);
  expect((await readFile(path)).length).toBe(sizeBytes);
});

test('a damaged file costs the damaged slots', async () => {
  const { path, open } = await tempRing();
  const leases = await open();
  const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
  for (const id of ids) await leases.add(id);
  const text = await readFile(path, 'latin1');
  await writeFile(path, `${text.slice(0, 60)}\0\0\0${text.slice(63)}`);
  expect(ids.map((await open()).has)).toEqual([true, false, true]);
  await truncate(path, 120);
  const cut = await open();
  expect(ids.map(cut.has)).toEqual([true, false, false]);
  const late = randomUUID();
  await cut.add(late);
  expect([ids[0], late].map((await open()).has)).toEqual([true, true]);
});

test('a job that ended under an earlier host is not begun again', async () => {
  const dataDir = await tempDir();
  const first = await openScriptedHost(dataDir);
  const assignment = await first.startRun();
  first.command.end({ exitCode: 0, signal: null, timedOut: false });
  await acknowledgeAll(first, assignment);
  // The first host is killed, not closed; the second is told by a control plane that stood still meanwhile.
  const second = await openScriptedHost(dataDir);
  await second.host.startRun(assignment);
  expect(await second.host.heartbeat()).toMatchObject({ leases: [] });
  const other = await second.startRun();
  expect((await second.host.heartbeat()).leases).toEqual([{ leaseId: other.leaseId, fence: other.fence }]);
  await second.command.followed;
  expect(second.command.starts).toBe(1);
  for (const { host } of [first, second]) await host.close({ end: false });
});

async function acknowledgeAll({ host }: ScriptedHost, { leaseId, fence }: RunAssignment): Promise<void> {
  for await (const { kind, seq } of host.watch(new AbortController().signal)) {
    if (kind !== 'finished') continue;
    await host.acknowledge([{ leaseId, fence, seq }]);
    return;
  }
}
