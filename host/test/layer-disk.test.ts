import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { FillLayer } from '../layer-add.ts';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';
import { tempDir } from './temp-dir.ts';

const oneFile: FillLayer = (diffDir) => writeFile(join(diffDir, 'file'), 'x'.repeat(10_000));

async function upperWith(dataDir: string, name: string): Promise<string> {
  const upper = join(dataDir, `upper-${name}`);
  await mkdir(upper);
  await writeFile(join(upper, name), name);
  return upper;
}

test('a sealed disk stands on the stack it ran on', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  await layers.add('base', 'image', oneFile);
  await layers.seal('one', await upperWith(dataDir, 'a'), ['base']);
  await layers.seal('two', await upperWith(dataDir, 'b'), ['one', 'base']);
  expect(await layers.stackOf('two')).toEqual(['two', 'one', 'base']);
  const directories = layers.directories(['two', 'one', 'base']);
  expect(await readFile(join(directories[0] ?? '', 'b'), 'utf8')).toBe('b');
  expect(await readFile(join(directories[1] ?? '', 'a'), 'utf8')).toBe('a');
  expect(await layers.stackOf('three')).toBe(null);
});

test('a disk that one driver sealed is not here for the other, and is again for its own', async () => {
  const dataDir = await tempDir();
  const options = { dataDir, budgetBytes: 1e9 };
  const machines = await createLayerStore({ ...options, driver: 'microvm' });
  await machines.add('base', 'image', oneFile);
  await machines.seal('one', await upperWith(dataDir, 'a'), ['base']);
  const containers = await createLayerStore({ ...options, driver: 'container' });
  expect(await containers.stackOf('one')).toBe(null);
  await expect(containers.hold('one', 'someone')).rejects.toMatchObject({ code: 'snapshot_missing' });
  expect(await containers.stackOf('base')).toEqual(['base']);
  await containers.seal('two', await upperWith(dataDir, 'b'), ['base']);
  const later = await createLayerStore({ ...options, driver: 'microvm' });
  expect(await later.stackOf('one')).toEqual(['one', 'base']);
  expect(await later.stackOf('two')).toBe(null);
});

test('a seal repeated after it worked changes nothing, one with another disk is refused', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  const upper = await upperWith(dataDir, 'a');
  await layers.seal('one', upper, []);
  await layers.seal('one', upper, []);
  const other = await upperWith(dataDir, 'other');
  await expect(layers.seal('one', other, [])).rejects.toMatchObject({ code: 'snapshot_failed' });
  expect(await readdir(other)).toEqual(['other']);
});

test('a seal on a layer that is gone, or of a disk that is gone, is refused and leaves nothing', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  const upper = await upperWith(dataDir, 'a');
  await expect(layers.seal('one', upper, ['gone'])).rejects.toMatchObject({ code: 'snapshot_missing' });
  await expect(layers.seal('one', join(dataDir, 'nowhere'), [])).rejects.toMatchObject({ code: 'snapshot_failed' });
  await expect(layers.seal('../one', upper, [])).rejects.toMatchObject({ code: 'invalid_argument' });
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
});

test('a layer whose making fails leaves nothing', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  const failing = layers.add('base', 'image', async (diffDir, scratchDir) => {
    await writeFile(join(diffDir, 'half'), 'half');
    await writeFile(join(scratchDir, 'half'), 'half');
    throw new Error('no more');
  });
  await expect(failing).rejects.toThrow('no more');
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
  expect(await layers.stackOf('base')).toBe(null);
});

test('two makers of one layer leave one', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  await Promise.all([layers.add('base', 'image', oneFile), layers.add('base', 'image', oneFile)]);
  expect(await readdir(join(dataDir, 'layers'))).toEqual(['1']);
  expect(await readdir(join(dataDir, 'layers', '1'))).toEqual(['diff', 'holders', 'meta.json', 'used']);
});

test('holders, releases and stacks outlive the process', async () => {
  const dataDir = await tempDir();
  const first = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  await first.add('base', 'image', oneFile);
  await first.seal('one', await upperWith(dataDir, 'a'), ['base']);
  await first.hold('one', 'capsule-1');
  await first.release('one');
  const second = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  expect(second.holds()).toEqual([{ layerId: 'one', holder: 'capsule-1' }]);
  expect((await second.collect()).freedBytes).toBe(0);
  await second.drop('one', 'capsule-1');
  expect((await second.collect()).freedBytes).toBeGreaterThan(0);
  expect(await second.stackOf('one')).toBe(null);
  expect(await second.stackOf('base')).toEqual(['base']);
});

test('leftovers of a killed process are removed, and an interrupted seal is finished', async () => {
  const dataDir = await tempDir();
  const first = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  await first.seal('one', await upperWith(dataDir, 'a'), []);
  const root = join(dataDir, 'layers');
  await runProgram(['mv', join(root, '1'), join(root, '.tmp-seal-one')]);
  for (const name of ['.tmp-image-x', '.tmp-gone-3', '.tmp-seal-two', 'broken'])
    await mkdir(join(root, name, 'diff'), { recursive: true });
  await writeFile(join(root, 'broken', 'meta.json'), '');
  const second = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  expect(await second.stackOf('one')).toEqual(['one']);
  expect(await readdir(root)).toEqual(['1']);
});

test('layers of an earlier boot are trusted only when they are known to be on the disk', async () => {
  const dataDir = await tempDir();
  const first = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  await first.add('safe', 'image', oneFile);
  await first.collect();
  await first.add('unsafe', 'image', oneFile);
  for (const dirName of ['1', '2']) {
    const path = join(dataDir, 'layers', dirName, 'meta.json');
    await writeFile(path, (await readFile(path, 'utf8')).replace(/"bootId":"[^"]*"/, '"bootId":"earlier"'));
  }
  const second = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  expect(second.list().map((layer) => layer.meta.layerId)).toEqual(['safe']);
});

test('the least recently used images and sources go until the rest fits the budget', async () => {
  const dataDir = await tempDir();
  let nowMs = 1e12;
  const layers = await createLayerStore({ dataDir, budgetBytes: 40_000, graceMs: 1000, now: () => nowMs });
  for (const id of ['a', 'b', 'c', 'd']) {
    nowMs += 100_000;
    await layers.add(id, id === 'b' ? 'source' : 'image', oneFile);
  }
  nowMs += 100_000;
  await layers.stackOf('a');
  await layers.collect();
  expect(layers.list().map((layer) => layer.meta.layerId)).toEqual(['a', 'd']);
});

test('a tree with any names and symlinks is deleted without following them', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  const precious = join(dataDir, 'precious');
  await mkdir(precious);
  await writeFile(join(precious, 'file'), 'kept');
  const upper = await upperWith(dataDir, 'a');
  await writeFile(Buffer.concat([Buffer.from(`${upper}/`), Buffer.from([0xff, 0xfe, 0x0a])]), 'not utf-8');
  await symlink(precious, join(upper, 'link'));
  const deep = Array.from({ length: 30 }, () => 'd'.repeat(100)).join('/');
  await runProgram(['mkdir', '-p', deep], { cwd: upper });
  await runProgram(['mkdir', '-p', deep], { cwd: join(upper, deep) });
  await layers.seal('one', upper, []);
  await layers.release('one');
  await layers.collect();
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
  expect(await readdir(precious)).toEqual(['file']);
});

test('what is released while a collection runs goes with the next one, for which nobody has to ask again', async () => {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  for (const id of ['a', 'b', 'c']) await layers.add(id, 'image', oneFile);
  const collections: Promise<unknown>[] = [];
  for (const id of ['a', 'b', 'c']) {
    await layers.release(id);
    collections.push(layers.collect());
  }
  await Promise.all(collections);
  expect(layers.list()).toEqual([]);
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
});
