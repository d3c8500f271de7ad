import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { createContainerDriver } from '../container-driver.ts';
import { openInstallation } from '../container-layout.ts';
import { removeTree } from '../layer-tree.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { runProgram } from '../run-program.ts';
import { makeDataDir } from './driver-rig.ts';
import { openHostRig } from './host-rig.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { smallSpec } from './small-spec.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 120_000 });

it('a capsule of no run that cannot be removed is told of and tried again, and keeps no host from its work', async () => {
  const { dataDir, imageDir } = await makeDataDir();
  onTestFinished(() => removeTree(dataDir));
  const container = await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
  await container.create(smallSpec('stray', imageDir));
  let failures = 2;
  const driver: MachineDriver = {
    ...container,
    async destroy(capsuleId) {
      if (capsuleId === 'stray' && failures-- > 0) throw new Error('it is busy');
      await container.destroy(capsuleId);
    },
  };
  const lines: string[] = [];
  const rig = await openHostRig(dataDir, { driver, warn: (line) => lines.push(line) });
  expect(lines).toEqual([expect.stringMatching(/capsule stray .*it is busy/)]);
  expect(await rig.run('true')).toMatchObject({ exitCode: 0 });
  expect(await container.list()).toEqual(['stray']);
  await rig.host.heartbeat();
  await expect.poll(() => lines.length).toBe(2);
  await rig.host.heartbeat();
  await expect.poll(() => container.list()).toEqual([]);
  expect(lines).toHaveLength(2);
  await rig.end();
});

it('a vessel of nobody that is busy keeps no driver from opening, and goes when it can', async () => {
  const { dataDir, imageDir } = await makeDataDir();
  onTestFinished(() => removeTree(dataDir));
  const options = { dataDir, networkPoolSize: 0, blankPoolSize: 1 };
  const first = await createContainerDriver(options);
  expect(await first.blanksReady()).toBe(1);
  const [vesselDir = ''] = await vesselDirsOf(dataDir);
  const end = await keepBusy(vesselDir);
  // It cannot become this capsule, and cannot be removed either.
  const impossible = smallSpec('impossible', join(dataDir, 'nowhere'));
  await expect(first.create(impossible)).rejects.toMatchObject({ code: 'provision_failed' });
  expect(await first.list()).toEqual([]);
  await first.close();
  expect(await vesselDirsOf(dataDir)).toEqual([vesselDir]);

  const lines: string[] = [];
  const next = await createContainerDriver({ ...options, blankPoolSize: 0, warn: (line) => lines.push(line) });
  expect(lines).toEqual([expect.stringMatching(/container v[0-9a-f]+ could not be removed yet/)]);
  await end();
  const machine = await next.create(smallSpec('possible', imageDir));
  await expect.poll(async () => (await vesselDirsOf(dataDir)).includes(vesselDir)).toBe(false);
  await machine.destroy();
  await next.close();
  await expectNothingLeft(dataDir);
});

it.skipIf(problem !== null)('so it is with what is left of a virtual machine', async () => {
  const { dataDir } = await makeDataDir();
  onTestFinished(() => removeTree(dataDir));
  const { runDir } = await openInstallation(dataDir, '/run/caisson');
  const vesselDir = join(runDir, 'v0123456789abcdef');
  await mkdir(vesselDir);
  const end = await keepBusy(vesselDir);
  const lines: string[] = [];
  const driver = await createEmulatedDriver({ dataDir, templates: false, progress: (line) => lines.push(line) });
  expect(lines).toEqual([expect.stringMatching(/virtual machine v0123456789abcdef could not be removed yet/)]);
  await end();
  await driver.close();
  await expectNothingLeft(dataDir);
});

async function vesselDirsOf(dataDir: string): Promise<readonly string[]> {
  const { runDir } = await openInstallation(dataDir, '/run/caisson');
  const names = await readdir(runDir);
  return names.filter((name) => /^v[0-9a-f]{16}$/.test(name)).map((name) => join(runDir, name));
}

/** Puts a mount in a directory which somebody is in, so that it cannot be removed until that is over. */
async function keepBusy(directory: string): Promise<() => Promise<void>> {
  const place = join(directory, 'busy');
  await mkdir(place);
  await runProgram(['mount', '-t', 'tmpfs', 'caisson-test', place]);
  const child = spawn('sleep', ['600'], { cwd: place });
  await once(child, 'spawn');
  return async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
    await runProgram(['umount', place]);
  };
}
