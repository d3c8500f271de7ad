import { createHash } from 'node:crypto';
import {
  chmod,
  chown,
  lchown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { buffer as bytesOf } from 'node:stream/consumers';
import { createZstdCompress } from 'node:zlib';
import { AppError } from '@caisson/contracts/app-error';
import type { LayerCopy, LayerUpload } from '@caisson/contracts/host-api';
import { expect, test } from 'vitest';
import { createLayerStore, type DiskLayers } from '../layer-disk.ts';
import { layerDiskPath } from '../layer-overlay.ts';
import { readProgram, runProgram } from '../run-program.ts';
import { tempDir } from './temp-dir.ts';

type Driver = 'container' | 'microvm';

const uuid = (last: number) => `00000000-0000-7000-8000-00000000000${last}`;
const [one, two, three, disk] = [uuid(1), uuid(2), uuid(3), uuid(4)];
const foreign = (last: number): LayerCopy => ({
  copyId: `copy-${uuid(last)}`,
  kind: 'image',
  driver: 'container',
  below: [],
});

async function openLayers(driver: Driver = 'container', options: object = {}) {
  const dataDir = await tempDir();
  return { dataDir, layers: await createLayerStore({ dataDir, budgetBytes: 1e9, driver, ...options }) };
}

/** What a program prints, as layers are packed. */
async function compressed(argv: readonly string[]): Promise<Buffer> {
  const packed = createZstdCompress();
  packed.end(await bytesOf(readProgram(argv)));
  return bytesOf(packed);
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

const fine = async (): Promise<void> => {};

function upload(layer: LayerCopy, bytes: Uint8Array): LayerUpload {
  return { ...layer, digest: createHash('sha256').update(bytes).digest('hex'), isForMemory: false };
}

/** Does what a control plane does; returns how many layers went over. */
async function bring(layerId: string, from: DiskLayers, to: DiskLayers): Promise<number> {
  const stack = (await from.describe(layerId)) ?? [];
  expect(stack[0]?.copyId).toBe(layerId);
  let count = 0;
  for (const layer of stack.toReversed()) {
    if (await to.hasCopy(layer.copyId)) continue;
    const bytes = await bytesOf(from.readCopy(layer.copyId));
    await to.addCopy(upload(layer, bytes), once(bytes), fine);
    count += 1;
  }
  return count;
}

/** An image with two sealed disks on it; the last one removed a file and made a directory anew. */
async function withDisks(driver: Driver = 'container') {
  const opened = await openLayers(driver);
  const { dataDir, layers } = opened;
  await layers.add('minimal', 'image', (diff) => writeFile(join(diff, 'below'), 'below'));
  if (driver === 'microvm') await writeFile(layerDiskPath(layers.directories(['minimal'])[0] ?? ''), 'as a disk');
  for (const [name, stack] of [
    [one, ['minimal']],
    [two, [one, 'minimal']],
  ] as const) {
    const upper = join(dataDir, name);
    await mkdir(upper);
    await writeFile(join(upper, name), name);
    await layers.seal(name, upper, stack);
  }
  return opened;
}

async function drafts(dataDir: string): Promise<readonly string[]> {
  return (await readdir(join(dataDir, 'layers'))).filter((name) => name.startsWith('.tmp-'));
}

test('a disk goes to another host with all below it, once, and on from there', async () => {
  const { layers: first } = await withDisks();
  const { layers: second } = await openLayers();
  expect(await second.hasCopy(two)).toBe(false);
  expect(await bring(two, first, second)).toBe(3);
  expect(await bring(two, first, second)).toBe(0);
  const stack = (await second.stackOf(two)) ?? [];
  const [top, below, image] = second.directories(stack);
  expect(stack.slice(0, 2)).toEqual([two, one]);
  expect(await readFile(join(top ?? '', two), 'utf8')).toBe(two);
  expect(await readFile(join(below ?? '', one), 'utf8')).toBe(one);
  expect(await readFile(join(image ?? '', 'below'), 'utf8')).toBe('below');
  const { layers: third } = await openLayers();
  expect(await bring(two, second, third)).toBe(3);
  expect(await third.stackOf(two)).toEqual(stack);
  // What grew there finds its ground where it came from.
  const upper = join(await tempDir(), 'upper');
  await mkdir(upper);
  await second.seal(three, upper, stack);
  expect(await bring(three, second, first)).toBe(1);
  expect(await first.stackOf(three)).toEqual([three, two, one, 'minimal']);
});

test('an image of the same name is not taken for the one a disk was made on', async () => {
  const { layers: first } = await withDisks();
  const { layers: second } = await withDisks();
  const [copy] = (await first.describe('minimal')) ?? [];
  const [own] = (await second.describe('minimal')) ?? [];
  expect(copy?.copyId).not.toBe(own?.copyId);
  expect(await first.describe('minimal')).toEqual([copy]);
  expect(await second.hasCopy(copy?.copyId ?? '')).toBe(false);
});

test('what programs know of a file survives the way', async () => {
  const { dataDir, layers: first } = await openLayers();
  const upper = join(dataDir, 'upper');
  await mkdir(upper);
  const at = (name: string) => join(upper, name);
  await writeFile(at('program'), 'x');
  await link(at('program'), at('again'));
  await symlink('/etc/passwd', at('link'));
  const holes = await open(at('holes'), 'w');
  await holes.truncate(1e9);
  await holes.write('end', 1e9 - 3);
  await holes.close();
  await lchown(at('link'), 1000123, 1000456);
  await chown(at('program'), 1000123, 1000456);
  await chmod(at('program'), 0o4751);
  await runProgram(['mkfifo', at('pipe')]);
  const before = await lstat(at('program'));
  await first.seal(disk, upper, []);
  const { layers: second } = await openLayers();
  await bring(disk, first, second);
  const there = (name: string) => join(second.directories([disk])[0] ?? '', name);
  const { mode, uid, gid, nlink, mtimeMs } = await lstat(there('program'));
  expect({ mode, uid, gid, nlink }).toEqual({ mode: before.mode, uid: 1000123, gid: 1000456, nlink: 2 });
  expect(Math.floor(mtimeMs / 1000)).toBe(Math.floor(before.mtimeMs / 1000));
  expect(await readlink(there('link'))).toBe('/etc/passwd');
  expect(await lstat(there('link'))).toMatchObject({ uid: 1000123, gid: 1000456 });
  expect((await lstat(there('pipe'))).isFIFO()).toBe(true);
  const sparse = await lstat(there('holes'));
  expect(sparse.size).toBe(1e9);
  expect(sparse.blocks * 512).toBeLessThan(1e6);
});

test('what was removed from a disk, or made anew, is so on another host', async () => {
  const { dataDir, layers: first } = await openLayers();
  const at = (name: string) => join(dataDir, name);
  for (const name of ['upper', 'work', 'root']) await mkdir(at(name));
  await first.add('minimal', 'image', async (diff) => {
    await mkdir(join(diff, 'anew'));
    for (const name of ['anew/old', 'gone', 'kept']) await writeFile(join(diff, name), name);
  });
  const mounted = async (options: string, work: () => Promise<void>) => {
    await runProgram(['mount', '-t', 'overlay', '-o', options, 'overlay', at('root')]);
    await work().finally(() => runProgram(['umount', at('root')]));
  };
  const [image = ''] = first.directories(['minimal']);
  await mounted(`lowerdir=${image},upperdir=${at('upper')},workdir=${at('work')}`, async () => {
    await rm(join(at('root'), 'anew'), { recursive: true });
    await mkdir(join(at('root'), 'anew'));
    await rm(join(at('root'), 'gone'));
  });
  await first.seal(disk, at('upper'), ['minimal']);
  const { layers: second } = await openLayers();
  await bring(disk, first, second);
  const stack = (await second.stackOf(disk)) ?? [];
  await mounted(`lowerdir=${second.directories(stack).join(':')}`, async () => {
    expect((await readdir(at('root'))).toSorted()).toEqual(['anew', 'kept']);
    expect(await readdir(join(at('root'), 'anew'))).toEqual([]);
  });
});

test('below the disk of a virtual machine go disks, not directories', async () => {
  const { layers: first } = await withDisks('microvm');
  const { layers: second } = await openLayers('microvm');
  await bring(two, first, second);
  const directories = second.directories((await second.stackOf(two)) ?? []);
  expect(await readFile(layerDiskPath(directories[2] ?? ''), 'utf8')).toBe('as a disk');
  expect(await readdir(directories[2] ?? '')).toEqual([]);
  expect(await readFile(join(directories[0] ?? '', two), 'utf8')).toBe(two);
  const { layers: containers } = await openLayers('container');
  await expect(bring(two, first, containers)).rejects.toMatchObject({ code: 'snapshot_failed' });
});

test('a copy that cannot be used is refused and leaves nothing', async () => {
  const { layers: first } = await withDisks();
  const { dataDir, layers: second } = await openLayers();
  const [top, lower, image] = (await first.describe(two)) ?? [];
  if (!top || !lower || !image) throw new Error('there is no stack');
  const bytes = await bytesOf(first.readCopy(image.copyId));
  const add = (layer: LayerUpload, content: Uint8Array = bytes, check = fine) =>
    second.addCopy(layer, once(content), check);
  await expect(add(upload(lower, bytes))).rejects.toMatchObject({ code: 'snapshot_missing' });
  await expect(add({ ...upload(image, bytes), digest: '0'.repeat(64) })).rejects.toMatchObject({
    code: 'blob_digest_mismatch',
  });
  const torn = bytes.subarray(0, bytes.length / 2);
  await expect(add(upload(image, torn), torn)).rejects.toMatchObject({ code: 'snapshot_failed' });
  const noise = Buffer.alloc(1000, 'noise');
  await expect(add(upload(image, noise), noise)).rejects.toMatchObject({ code: 'snapshot_failed' });
  const useless = () => Promise.reject(new Error('another processor'));
  await expect(add(upload(image, bytes), bytes, useless)).rejects.toMatchObject({ code: 'snapshot_failed' });
  await expect(add({ ...upload(image, bytes), copyId: '../out' })).rejects.toMatchObject({ code: 'invalid_argument' });
  expect(second.list()).toEqual([]);
  expect(await drafts(dataDir)).toEqual([]);
  await expect(bytesOf(second.readCopy('nothing'))).rejects.toMatchObject({ code: 'snapshot_missing' });
  expect(await second.describe('nothing')).toBe(null);
});

test('an archive of a hostile host writes nowhere else', async () => {
  const { dataDir, layers } = await openLayers();
  const outside = await tempDir();
  const from = await tempDir();
  await mkdir(join(from, 'diff'));
  await writeFile(join(from, 'diff', 'evil'), 'evil');
  await symlink(outside, join(from, 'diff', 'door'));
  await symlink(outside, join(from, 'holders'));
  await writeFile(join(from, 'meta.json'), '{}');
  const packed = (...members: readonly string[]) =>
    compressed(['tar', '--create', '--absolute-names', '--directory', from, ...members]);
  const attacks = [
    ['--transform=s,diff/evil,diff/door/evil,', 'diff/door', 'diff/evil'],
    [`--transform=s,^diff,diff/../../../../${outside},`, 'diff/evil'],
    [`--transform=s,^diff,${outside},`, 'diff/evil'],
    ['holders', 'meta.json', 'diff'],
  ];
  for (const [index, attack] of attacks.entries()) {
    const bytes = await packed(...attack);
    await layers.addCopy(upload(foreign(index), bytes), once(bytes), fine).catch(() => {});
    expect(await readdir(outside), attack.join(' ')).toEqual([]);
  }
  // Of the last only what a layer is made of was unpacked.
  expect(layers.list().map(({ meta }) => meta.layerId)).toContain(foreign(3).copyId);
  await runProgram(['mknod', join(from, 'diff', 'disk'), 'b', '8', '0']);
  const bytes = await packed('diff');
  await expect(layers.addCopy(upload(foreign(9), bytes), once(bytes), fine)).rejects.toMatchObject({
    code: 'snapshot_failed',
  });
  expect(await drafts(dataDir)).toEqual([]);
});

test('a layer that leads somewhere, or has the name of something of the host, is refused', async () => {
  const { dataDir, layers } = await openLayers('container');
  const { layers: machines } = await openLayers('microvm');
  await layers.add('source-1', 'source', async () => {});
  const from = await tempDir();
  const refused = async (to: DiskLayers, layer: LayerCopy, code: string) => {
    const bytes = await compressed(['tar', '--create', '--directory', from, ...(await readdir(from))]);
    await expect(to.addCopy(upload(layer, bytes), once(bytes), fine)).rejects.toMatchObject({ code });
    await rm(from, { recursive: true });
    await mkdir(from);
  };
  await symlink('../1/diff', join(from, 'diff'));
  await refused(layers, foreign(1), 'snapshot_failed');
  await symlink('/etc/shadow', join(from, 'diff.erofs'));
  await refused(machines, { ...foreign(2), driver: 'microvm' }, 'snapshot_failed');
  const sealed: LayerCopy = { copyId: disk, kind: 'sealed', driver: 'microvm', below: [] };
  await mkdir(join(from, 'diff'));
  await symlink('/etc/shadow', join(from, 'diff', 'disk.ext4'));
  await refused(machines, sealed, 'snapshot_failed');
  await mkdir(join(from, 'diff'));
  await runProgram(['mkfifo', join(from, 'diff', 'machine.json')]);
  await refused(machines, sealed, 'snapshot_failed');
  for (const copyId of ['source-1', 'source-2', 'minimal']) {
    for (const kind of ['image', 'sealed'] as const) {
      await mkdir(join(from, 'diff'));
      await refused(layers, { ...foreign(1), kind, copyId }, 'invalid_argument');
    }
  }
  // Nor does a layer of the host's own lie below one of another host because that one knows its name.
  await mkdir(join(from, 'diff'));
  await refused(layers, { ...sealed, driver: 'container', below: ['source-1'] }, 'snapshot_missing');
  expect(await layers.hasCopy('source-1')).toBe(false);
  expect(await drafts(dataDir)).toEqual([]);
});

test('an archive whose end comes late is as good as any, and one whose end is a failure is none', async () => {
  const { layers: first } = await withDisks();
  const { layers: second } = await openLayers();
  const [, , image] = (await first.describe(two)) ?? [];
  if (!image) throw new Error('there is no stack');
  const bytes = await bytesOf(first.readCopy(image.copyId));
  async function* late(end: () => void): AsyncIterable<Uint8Array> {
    yield bytes;
    await new Promise((resolve) => setTimeout(resolve, 100));
    end();
  }
  const broken = () => {
    throw new AppError('disk_full', 'the other host broke off');
  };
  await expect(second.addCopy(upload(image, bytes), late(broken), fine)).rejects.toMatchObject({ code: 'disk_full' });
  await second.addCopy(
    upload(image, bytes),
    late(() => {}),
    fine,
  );
  expect(await second.hasCopy(image.copyId)).toBe(true);
});

test('a file that was removed may have had any name', async () => {
  const { dataDir, layers: first } = await openLayers();
  const upper = join(dataDir, 'upper');
  await mkdir(upper);
  await runProgram(['sh', '-c', `mknod "$(printf '${upper}/caf\\351')" c 0 0`]);
  await first.seal(disk, upper, []);
  const { layers: second } = await openLayers();
  expect(await bring(disk, first, second)).toBe(1);
});

test('a copy of a disk goes when nothing has used it for a while, and never under a capsule', async () => {
  const { layers: first } = await withDisks();
  let nowMs = Date.now();
  const { dataDir, layers: second } = await openLayers('container', { now: () => nowMs, graceMs: 1000 });
  await bring(two, first, second);
  await second.hold(two, 'capsule');
  nowMs += 5000;
  await second.collect();
  expect(await second.hasCopy(two)).toBe(true);
  await second.drop(two, 'capsule');
  const again = await createLayerStore({ dataDir, budgetBytes: 1e9, now: () => nowMs, graceMs: 1000 });
  expect(await again.hasCopy(two)).toBe(true);
  nowMs += 5000;
  await again.collect();
  // The image is within the budget.
  expect(again.list().map(({ meta }) => meta.kind)).toEqual(['image']);
  expect(await bring(two, first, again)).toBe(2);
});
