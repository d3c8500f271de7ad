import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createLayerStore } from '../layer-disk.ts';
import { overlayLowers } from '../layer-overlay.ts';
import { runProgram } from '../run-program.ts';
import { tempDir } from './temp-dir.ts';

test('a chain of 100 sealed layers below a long directory name mounts, upper ones first', async () => {
  const dataDir = join(await tempDir(), 'a-directory-with-a-rather-long-name-as-people-have-them'.repeat(2));
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  let stack: readonly string[] = [];
  for (let n = 0; n < 100; n++) {
    const upper = join(dataDir, 'upper');
    await mkdir(upper);
    await writeFile(join(upper, 'newest'), String(n));
    await writeFile(join(upper, `file-${n}`), String(n));
    await layers.seal(`layer-${n}`, upper, stack);
    stack = (await layers.stackOf(`layer-${n}`)) ?? [];
  }
  const { cwd, lowerdir } = overlayLowers(layers.directories(stack));
  const target = join(dataDir, 'target');
  await mkdir(target);
  const script = `mount -t overlay overlay -o "ro,lowerdir=$1" "$2" && ls "$2" && cat "$2/newest" "$2/file-0"`;
  const { stdout } = await runProgram(['unshare', '--mount', 'sh', '-ec', script, 'sh', lowerdir, target], { cwd });
  expect(stdout.split('\n')).toHaveLength(102);
  expect(stdout.endsWith('990')).toBe(true);
  expect(await readFile(join(layers.directories(stack)[0] ?? '', 'newest'), 'utf8')).toBe('99');
});

test('names that overlayfs would misread are escaped', () => {
  expect(overlayLowers(['/data:1/layers/1/diff', '/data:1/layers/2,3/diff'])).toEqual({
    cwd: '/data:1/layers',
    lowerdir: '1/diff:2\\,3/diff',
  });
});
