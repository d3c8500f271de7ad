import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openSmallDisk, type SmallDisk } from '@caisson/contracts/test/small-disk';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type HostRig, openHostRig } from './host-rig.ts';

const mebibyte = 2 ** 20;
let disk: SmallDisk;
let rig: HostRig;
beforeAll(async () => {
  disk = await openSmallDisk({ mebibytes: 512, files: 10_000 });
  rig = await openHostRig(disk.dataDir);
});
afterAll(async () => {
  try {
    await rig.end();
  } finally {
    await disk.end();
  }
});

test('jobs that print without end while nobody listens grow neither the host nor its disk beyond their limit', async () => {
  await rig.run('true');
  const before = process.memoryUsage().rss;
  await rig.unfollow();
  const maxOutputBytes = 8 * mebibyte;
  const floods = Array.from({ length: 6 }, () =>
    rig.assignment('yes "a line of a job that has a lot to say"', { maxOutputBytes }),
  );
  for (const flood of floods) await rig.host.startRun(flood);
  const sizes = () =>
    Promise.all(floods.map(async ({ leaseId }) => (await stat(join(disk.dataDir, 'runs', leaseId, 'messages'))).size));
  await expect.poll(async () => Math.min(...(await sizes())), { timeout: 30_000 }).toBeGreaterThan(maxOutputBytes);
  const full = await sizes();
  expect((await rig.host.heartbeat()).leases).toHaveLength(floods.length);
  for (const { leaseId, fence } of floods) await rig.host.cancelRun({ leaseId, fence }, 'canceled');
  expect(process.memoryUsage().rss - before).toBeLessThan(150 * mebibyte);
  // What comes behind the limit is one marker and the end.
  expect(Math.max(...full)).toBeLessThan(maxOutputBytes * 1.1);
  rig.follow();
  for (const { leaseId } of floods) {
    expect(await rig.ended(leaseId)).toMatchObject({ outcome: 'canceled' });
    expect(rig.output(leaseId)).toHaveLength(maxOutputBytes);
  }
}, 60_000);

test('a line of a million characters and output of every byte come out as they went in', async () => {
  const script = String.raw`head -c 1000000 /dev/zero | tr '\0' x; echo
    for i in 0 1 2 3; do for j in 0 1 2 3 4 5 6 7; do for k in 0 1 2 3 4 5 6 7; do printf "\\$i$j$k"; done; done; done`;
  const assignment = rig.assignment(script, { maxOutputBytes: 4 * mebibyte });
  await rig.host.startRun(assignment);
  expect(await rig.ended(assignment.leaseId)).toMatchObject({ outcome: 'exited', exitCode: 0 });
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  expect(
    rig.bytes(assignment.leaseId).equals(Buffer.concat([Buffer.alloc(1_000_000, 'x'), Buffer.from('\n'), every])),
  ).toBe(true);
});
