import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunAssignment } from '@caisson/contracts/host-api';
import { openSmallDisk, type SmallDisk } from '@caisson/contracts/test/small-disk';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { leaked, type ResourceSnapshot, snapshotResources } from '../leak-check.ts';
import { type HostRig, openHostRig } from './host-rig.ts';
import { archiveOf, tarOf } from './source-archive.ts';

let disk: SmallDisk;
let dataDir: string;
let rig: HostRig;
let before: ResourceSnapshot;

beforeAll(async () => {
  disk = await openSmallDisk({ mebibytes: 96, files: 2_000 });
  dataDir = disk.dataDir;
  rig = await openHostRig(dataDir);
  expect(await rig.run('true')).toMatchObject({ exitCode: 0 });
  before = await snapshotResources(dataDir);
});
afterEach(async () => {
  await disk.makeRoom();
  await expect.poll(async () => leaked(before, await snapshotResources(dataDir))).toEqual([]);
  expect(await halfMade()).toEqual([]);
});
afterAll(async () => {
  try {
    await rig.end();
  } finally {
    await disk.end();
  }
});

/** Whatever a failure left under a temporary name. */
async function halfMade(): Promise<string[]> {
  const names = await Promise.all(['runs', 'layers', 'sources'].map((name) => readdir(join(dataDir, name))));
  return names.flat().filter((name) => name.startsWith('.tmp-'));
}

const archive = async (sizeBytes: number) =>
  archiveOf(await tarOf([{ name: 'file', content: Buffer.alloc(sizeBytes, 'x') }]));

/** Where in the kernel the process whose command line ends like this waits; empty when there is none. */
async function placeInKernel(end: string): Promise<string> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (text.endsWith(`${end}\0`)) return readFile(`/proc/${pid}/wchan`, 'utf8').catch(() => '');
  }
  return '';
}

/** Starts a command that counts and fills the disk meanwhile, until the command waits for somebody to take what it says. */
async function countOnFullDisk(lines: number, rig: HostRig, disk: SmallDisk): Promise<RunAssignment> {
  const assignment = rig.assignment(`seq 1 10; sleep 1; seq 11 ${lines}`, { maxOutputBytes: 2 ** 24 });
  await rig.host.startRun(assignment);
  await expect.poll(() => rig.output(assignment.leaseId)).toContain('10\n');
  await disk.fill();
  await expect.poll(() => placeInKernel(`seq 11 ${lines}`), { timeout: 20_000 }).toMatch(/pipe/);
  return assignment;
}

function numbersTo(lines: number): string {
  return Array.from({ length: lines }, (_, i) => `${i + 1}\n`).join('');
}

async function* pieces(bytes: Uint8Array) {
  yield bytes;
}

test('an assignment that cannot be written down is refused with the reason, and taken when there is room', async () => {
  const assignment = rig.assignment('echo ran');
  await disk.fill();
  await expect(rig.host.startRun(assignment)).rejects.toMatchObject({
    code: 'disk_full',
    message: expect.stringContaining('the assignment could not be written down'),
  });
  expect((await rig.host.heartbeat()).leases).toEqual([]);
  await disk.makeRoom();
  await rig.host.startRun(assignment);
  expect(await rig.ended(assignment.leaseId)).toMatchObject({ exitCode: 0 });
  expect(rig.output(assignment.leaseId)).toBe('ran\n');
});

test('output is held back while the journal cannot be written, and comes whole when there is room', async () => {
  const lines = 1_000_000;
  const assignment = await countOnFullDisk(lines, rig, disk);
  expect((await rig.host.heartbeat()).leases).toEqual([{ leaseId: assignment.leaseId, fence: assignment.fence }]);
  await disk.makeRoom();
  expect(await rig.ended(assignment.leaseId)).toMatchObject({ outcome: 'exited', exitCode: 0 });
  expect(rig.output(assignment.leaseId)).toBe(numbersTo(lines));
});

test('a command is canceled while what it said waits for room', async () => {
  const assignment = rig.assignment('echo ready; while :; do echo waits; done', { maxOutputBytes: 2 ** 30 });
  await rig.host.startRun(assignment);
  await expect.poll(() => rig.output(assignment.leaseId)).toContain('ready\n');
  await disk.fill();
  const processes = async () =>
    [...(await snapshotResources(dataDir))].filter((line) => line.endsWith(' in a capsule')).length;
  expect(await processes()).toBe(2);
  await rig.host.cancelRun(assignment, 'canceled');
  await expect.poll(processes, { timeout: 20_000 }).toBe(1);
  await disk.makeRoom();
  expect(await rig.ended(assignment.leaseId)).toEqual({ outcome: 'canceled' });
});

test('a capsule that filled the disk ends while what it said waits for room', async () => {
  const filler = 'dd if=/dev/zero of=/filler bs=64k; while :; do echo waits; done';
  const result = await rig.run(filler, { maxOutputBytes: 2 ** 30 });
  expect(result).toMatchObject({ outcome: 'failed', code: 'disk_full' });
});

test('a source that does not fit is refused and leaves nothing', async () => {
  const { digest, bytes } = await archive(1_000);
  await disk.fill();
  await expect(rig.host.putBlob(digest, pieces(bytes))).rejects.toMatchObject({ code: 'disk_full' });
  expect(await rig.host.hasBlob(digest)).toBe(false);
  await disk.makeRoom();
  await rig.host.putBlob(digest, pieces(bytes));
  expect(await rig.host.hasBlob(digest)).toBe(true);
});

test('a heartbeat says that there is no room for new work, until there is', async () => {
  expect((await rig.host.heartbeat()).refuses).toBeUndefined();
  await disk.fill();
  expect((await rig.host.heartbeat()).refuses).toMatch(/^its disk has only 0 MiB left$/);
  await disk.makeRoom();
  expect((await rig.host.heartbeat()).refuses).toBeUndefined();
  await disk.fillFiles();
  expect((await rig.host.heartbeat()).refuses).toMatch(/^its disk has room for only 0 more files$/);
});

const pages = Array.from({ length: 13 }, (_, index) => index * 3 + 2);

test.each([
  ['bytes', pages.map((count) => () => disk.fill(count * 4096))],
  ['files', pages.map((count) => () => disk.fillFiles(count))],
])('wherever the %s run out, a run passes or ends as disk full, and the next one passes', async (_, fillings) => {
  const outcomes = new Set<string>();
  for (const [index, fill] of fillings.entries()) {
    const { digest, bytes } = await archive(40_000 + index);
    await rig.host.putBlob(digest, pieces(bytes));
    await fill();
    const sealAs = `sealed-${_}-${index}`;
    const assignment = rig.assignment('true', { sourceDigest: digest, sealAs });
    const result = await rig.host.startRun(assignment).then(
      () => {
        // Whoever cannot say its end waits with it for room.
        const timer = setTimeout(() => disk.makeRoom(), 2_000);
        return rig.ended(assignment.leaseId).finally(() => clearTimeout(timer));
      },
      (error) => ({ outcome: 'refused', code: error.code }) as const,
    );
    if (result.outcome === 'exited') expect(result).toMatchObject({ exitCode: 0 });
    else expect(result).toMatchObject({ code: 'disk_full' });
    outcomes.add(result.outcome);
    await disk.makeRoom();
    const isSealed = (await rig.layers.stackOf(sealAs)) !== null;
    expect(isSealed).toBe(result.outcome === 'exited');
    await rig.host.releaseLayer(sealAs);
    await rig.host.releaseLayer(`source-${digest}`);
  }
  expect([...outcomes]).toEqual(expect.arrayContaining(['exited', 'failed']));
  expect(await rig.run('true')).toMatchObject({ exitCode: 0 });
});

test('a disk that is given back goes although there is no file left for its mark', async () => {
  expect(await rig.run('true', { sealAs: 'given-back' })).toMatchObject({ exitCode: 0 });
  await disk.fillFiles();
  await rig.host.releaseLayer('given-back').catch((error) => expect(error).toMatchObject({ code: 'ENOSPC' }));
  expect(await rig.layers.stackOf('given-back')).toBeNull();
  await rig.host.releaseLayer('given-back');
});

test('images and sources nobody uses go when room is short, and what is held stays', async () => {
  await rig.layers.add('unused', 'image', (directory) =>
    writeFile(join(directory, 'large'), Buffer.alloc(20 * 2 ** 20)),
  );
  await disk.fill(2 ** 20);
  expect((await rig.host.heartbeat()).refuses).toBeDefined();
  await expect.poll(() => rig.layers.list().map(({ meta }) => meta.layerId)).toEqual(['tiny']);
  await expect.poll(async () => (await rig.host.heartbeat()).refuses).toBeUndefined();
});

test('a host that is started anew on a full disk takes up its run, and its output comes whole when there is room', async () => {
  const own = await openSmallDisk({ mebibytes: 96, files: 2_000 });
  onTestFinished(() => own.end());
  const earlier = await openHostRig(own.dataDir);
  const lines = 500_000;
  const assignment = await countOnFullDisk(lines, earlier, own);
  await earlier.host.close({ end: false });
  const next = await openHostRig(own.dataDir);
  expect((await next.host.heartbeat()).leases).toMatchObject([{ leaseId: assignment.leaseId }]);
  await own.makeRoom();
  expect(await next.ended(assignment.leaseId)).toMatchObject({ outcome: 'exited', exitCode: 0 });
  expect(next.output(assignment.leaseId)).toBe(numbersTo(lines));
  await next.end();
});
