import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openSmallDisk } from '@caisson/contracts/test/small-disk';
import { expect, onTestFinished, test } from 'vitest';
import { aboveFloor } from '../disk-floor.ts';
import { imageTooLarge, isDiskFull } from '../disk-full.ts';
import { createImageStore } from '../image-store.ts';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';
import { registryProblem, startRegistry, writeLayout } from './image-test-registry.ts';
import { tarOf } from './source-archive.ts';
import { tempDir } from './temp-dir.ts';

const { signal } = new AbortController();

async function openSmall() {
  const disk = await openSmallDisk({ mebibytes: 8, files: 1_000 });
  onTestFinished(() => disk.end());
  const layers = await createLayerStore({ dataDir: disk.directory, budgetBytes: 1e12 });
  const images = await createImageStore({ dataDir: disk.directory, layers });
  const left = () => readdir(join(disk.directory, 'layers'));
  return { disk, layers, left, resolve: (image: string) => images.resolve(image, () => {}, signal) };
}

test('an image that is built is refused at once on a disk too full for it', async () => {
  const { resolve, left } = await openSmall();
  const message = 'the disk of the host is full: image debian:12 does not fit';
  await expect(resolve('debian:12')).rejects.toMatchObject({ code: 'disk_full', message });
  expect(await left()).toEqual([]);
});

test('a program that waits for room without end is ended when the disk becomes full under it', async () => {
  const { disk } = await openSmall();
  const floor = { directory: disk.directory, leastBytes: 2 ** 20, error: () => imageTooLarge('any'), everyMs: 10 };
  const wait = (text: string) => aboveFloor(floor, signal, (both) => runProgram(['sh', '-c', text], { signal: both }));
  await expect(wait('sleep 0.1; echo done')).resolves.toMatchObject({ stdout: 'done\n' });
  // Listened to from the start: it may end before the disk is quite full.
  const ended = expect(wait('exec sleep 1000')).rejects.toSatisfy(isDiskFull);
  await disk.fill();
  await ended;
  const given = AbortSignal.abort(new Error('not wanted any more'));
  await expect(aboveFloor(floor, given, async (both) => both.throwIfAborted())).rejects.toThrow('not wanted any more');
});

test.skipIf(registryProblem !== null)(
  'wherever the disk becomes full while an image is pulled, nothing is left of it, and with room it is pulled',
  async () => {
    const { disk, resolve, left } = await openSmall();
    const base = await tempDir();
    await mkdir(join(base, 'registry'));
    const registry = await startRegistry(join(base, 'registry'));
    onTestFinished(() => registry.stop());
    const files = ['a', 'b', 'c', 'd'].map((name) => ({ name, content: Buffer.alloc(300_000, name) }));
    await writeLayout(join(base, 'layout'), [await tarOf(files)], []);
    await registry.push(join(base, 'layout'), 'people/large:1');
    const image = `${registry.host}/people/large:1`;
    for (const leaveBytes of [0, 4_096, 16_384, 65_536, 262_144, 2 ** 20]) {
      await disk.fill(leaveBytes);
      await expect(resolve(image), `with ${leaveBytes} bytes`).rejects.toMatchObject({ code: 'disk_full' });
      expect(await left()).toEqual([]);
      await disk.makeRoom();
    }
    await resolve(image);
    expect(await left()).toHaveLength(1);
  },
);
