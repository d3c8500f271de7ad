import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Machine, MachineDriver } from '../machine-driver.ts';
import { makeDataDir } from './driver-rig.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { smallSpec } from './small-spec.ts';
import { runInside } from './test-driver.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
const points = await crashPointsOfMicrovms();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** What a machine is to the next host, if its host was killed in this scene at this point. */
type Fate = 'is gone' | 'runs' | 'sleeps';

const creation: Readonly<Record<string, Fate>> = {
  'template.begun': 'is gone',
  'template.saved': 'is gone',
  'microvm.founded': 'is gone',
  'microvm.vessel-started': 'is gone',
  'microvm.claimed': 'is gone',
  'microvm.disks-inserted': 'is gone',
  'microvm.runs': 'runs',
  'microvm.killed': 'is gone',
};
const saving: Readonly<Record<string, Fate>> = { 'microvm.stands': 'runs', 'microvm.memory-saved': 'runs' };
const sleeping: Readonly<Record<string, Fate>> = {
  ...saving,
  'microvm.memory-published': 'runs',
  'microvm.suspended': 'sleeps',
  'microvm.killed': 'sleeps',
  'microvm.memory-loaded': 'sleeps',
  'microvm.woken': 'runs',
};
const scenes = { create: creation, snapshot: saving, suspend: sleeping };
const cases = Object.entries(scenes).flatMap(([scene, fates]) =>
  Object.entries(fates).map(([point, fate]) => ({ scene, point, fate })),
);
/** Where there is a QEMU for the host to lose. */
const losses = cases.filter(
  ({ scene, fate, point }) => scene !== 'create' && (fate === 'runs' || point === 'microvm.suspended'),
);

describe.skipIf(problem !== null)('micro-virtual machines', () => {
  let dataDir = '';
  let imageDir = '';
  beforeAll(async () => {
    ({ dataDir, imageDir } = await makeDataDir());
  });
  // What a test that failed left is not the next one's.
  afterEach(async () => leaveNothing(await createEmulatedDriver({ dataDir })));
  afterAll(() => rm(dataDir, { recursive: true, force: true }));

  it('are killed at every point', () => {
    expect([...new Set(cases.map(({ point }) => point))].toSorted()).toEqual(points);
  });

  it.each(cases)('whose host is killed at $point ($scene): the next one finds that it $fate', async (each) => {
    if (each.point.startsWith('template.')) await rm(join(dataDir, 'templates'), { recursive: true, force: true });
    expect(await runHost(each, 'host')).toEqual([null, 'SIGKILL']);
    const driver = await createEmulatedDriver({ dataDir });
    expect((await readdir(join(dataDir, 'templates'))).filter((name) => name.endsWith('.new'))).toEqual([]);
    const adopted = await driver.adopt('orphan');
    expect(adopted !== null).toBe(each.fate === 'runs');
    const machine =
      each.fate === 'sleeps'
        ? await driver.memory?.wake(smallSpec('orphan', imageDir, { egress: 'internet' }))
        : adopted;
    if (machine && each.scene !== 'create') await expectCounting(machine);
    await leaveNothing(driver);
  });

  it.each(losses)('whose QEMU is killed at $point ($scene) leave nothing', async (each) => {
    expect(await runHost(each, 'qemu')).toEqual([0, null]);
    await leaveNothing(await createEmulatedDriver({ dataDir }));
  });

  async function expectCounting(machine: Machine): Promise<void> {
    // While it is written it may be empty.
    const count = 'until grep . /dev/shm/count; do :; done';
    const counts = await runInside(machine, `${count}; sleep 0.5; ${count}`, { timeoutMs: 100_000 });
    expect(counts).toMatchObject({ exitCode: 0, stderr: '' });
    const [first = 0, second = 0] = counts.stdout.split('\n').map(Number);
    expect(second).toBeGreaterThan(first);
  }

  async function leaveNothing(driver: MachineDriver): Promise<void> {
    for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
    expect(await driver.list()).toEqual([]);
    await driver.close();
    await rm(join(dataDir, 'snapshot'), { recursive: true, force: true });
    await expectNothingLeft(dataDir);
  }

  async function runHost({ scene, point }: { scene: string; point: string }, victim: string): Promise<unknown> {
    const childPath = join(import.meta.dirname, 'microvm-host-child.ts');
    const places = ['--data-dir', dataDir, '--image', imageDir];
    const words = [...places, '--scene', scene, '--die-at', point, '--victim', victim];
    const child = spawn(process.execPath, [childPath, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
    return once(child, 'exit');
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
