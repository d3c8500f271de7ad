import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { readHostConfig } from '../config.ts';
import { createContainerDriver } from '../container-driver.ts';
import { chooseDriver } from '../driver-choice.ts';
import { createMicrovmDriver } from '../microvm-driver.ts';
import { openDriver } from '../open-driver.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { tempDir } from './temp-dir.ts';
import { microvmProblem, seedAccelerator, testKitsDir } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000 });
const config = readHostConfig({ CAISSON_BLANK_CAPSULES: '0', CAISSON_KITS_DIR: testKitsDir });

it('where nobody asked for virtual machines, containers are taken at once and nothing is fetched', async () => {
  const lines: string[] = [];
  const progress = (line: string) => lines.push(line);
  const choice = await chooseDriver({ wish: 'auto', dataDir: await tempDir(), kitsDir: null, progress });
  expect(choice).toMatchObject({ driver: 'container', accelerator: null });
  expect(choice.reason).toMatch(/no KVM|--driver microvm/);
  expect(lines).toEqual([]);
});

it('a setting that names no driver is refused', () => {
  expect(() => readHostConfig({ CAISSON_DRIVER: 'vm' })).toThrow(
    /CAISSON_DRIVER is vm; .*auto, container, gvisor, microvm/,
  );
});

const shape = { cpus: 1, memoryBytes: 64 * 2 ** 20, diskBytes: 64 * 2 ** 20, pids: 16 };
const spec = { capsuleId: 'left', layers: [], shape, egress: 'internet', readOnlyBinds: [], hostname: 'left' } as const;

it.skipIf(problem !== null)('what virtual machines left is removed before containers start', async () => {
  const dataDir = await tempDir();
  const microvmDir = join(dataDir, 'microvm');
  const options = { kitsDir: testKitsDir, accelerator: 'tcg', networkPoolSize: 0 } as const;
  const earlier = await createMicrovmDriver({ dataDir: microvmDir, ...options });
  const machine = await earlier.create(spec);
  await earlier.close();

  const wished = { ...config, driver: 'container' } as const;
  const { driver, choice } = await openDriver({ dataDir, config: wished, networkPoolSize: 0, progress: () => {} });
  expect(choice).toMatchObject({ driver: 'container', reason: 'asked for' });
  expect(await machine.died).toMatchObject({ outOfMemory: false });
  await expectNothingLeft(microvmDir);
  await driver.close();
  await expectNothingLeft(dataDir);
});

it.skipIf(problem !== null)('what containers left is removed before virtual machines start', async () => {
  const dataDir = await tempDir();
  const microvmDir = join(dataDir, 'microvm');
  await seedAccelerator(microvmDir);
  const earlier = await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
  const capsule = await earlier.create(spec);
  await earlier.close();

  const lines: string[] = [];
  const wished = { ...config, driver: 'microvm' } as const;
  const progress = (line: string) => lines.push(line);
  const { driver, choice } = await openDriver({ dataDir, config: wished, networkPoolSize: 0, progress });
  expect(choice).toMatchObject({ driver: 'microvm', reason: expect.stringMatching(/^asked for; .*using/) });
  if (choice.accelerator === 'tcg') expect(lines).toEqual([expect.stringContaining('much slower')]);
  expect(await capsule.died).toMatchObject({ outOfMemory: false });
  await expectNothingLeft(dataDir);
  await driver.close();
  await expectNothingLeft(microvmDir);
});
