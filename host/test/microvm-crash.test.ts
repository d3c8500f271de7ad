import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createMicrovmDriver } from '../microvm-driver.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { microvmProblem, testKitsDir } from './test-kit.ts';
import { makeTinyImage } from './tiny-image.ts';

const problem = await microvmProblem();
const points = await crashPointsOfMicrovms();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(problem !== null)('a host killed at', () => {
  let dataDir = '';
  let imageDir = '';
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
    imageDir = join(dataDir, 'layers', 'tiny', 'diff');
    await makeTinyImage(imageDir);
  });
  afterAll(() => rm(dataDir, { recursive: true, force: true }));

  it.each(points)('%s leaves nothing the next one does not find and remove', async (point) => {
    if (point.startsWith('template.')) await rm(join(dataDir, 'templates'), { recursive: true, force: true });
    await runHostUntil(point);
    const driver = await openDriver();
    const drafts = (await readdir(join(dataDir, 'templates'))).filter((name) => name.endsWith('.new'));
    expect(drafts).toEqual([]);
    // What runs is kept, what was half-made is not.
    const machine = await driver.adopt('orphan');
    expect(machine === null).toBe(point !== 'microvm.runs');
    for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
    expect(await driver.list()).toEqual([]);
    await driver.close();
    await expectNothingLeft(dataDir);
  });

  async function runHostUntil(point: string): Promise<void> {
    const childPath = join(import.meta.dirname, 'microvm-host-child.ts');
    const words = ['--data-dir', dataDir, '--kits-dir', testKitsDir, '--image', imageDir, '--die-at', point];
    const child = spawn(process.execPath, [childPath, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
    const [, signal] = await once(child, 'exit');
    expect(signal).toBe('SIGKILL');
  }

  function openDriver() {
    return createMicrovmDriver({ dataDir, kitsDir: testKitsDir, accelerator: 'tcg', networkPoolSize: 0 });
  }
});

/** Every point in the source, so that none is forgotten. */
async function crashPointsOfMicrovms(): Promise<readonly string[]> {
  const hostUrl = new URL('../', import.meta.url);
  const files = (await readdir(hostUrl)).filter((name) => name.startsWith('microvm-'));
  const texts = await Promise.all(files.map((name) => readFile(new URL(name, hostUrl), 'utf8')));
  const found = texts.flatMap((text) => [...text.matchAll(/crashPoint\('([^']+)'\)/g)].map(([, name]) => name ?? ''));
  return [...new Set(found)].toSorted();
}
