import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openCgroup } from '../cgroup-capsule.ts';
import { readCgroupHierarchy } from '../cgroup-hierarchy.ts';
import { findProcess, type ProcessRef, waitUntilDead } from '../container-process.ts';
import type { MicrovmDriver } from '../microvm-driver.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { runInside } from './test-driver.ts';
import { microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(problem !== null)('the pool of warm clones', () => {
  let test: DriverUnderTest<MicrovmDriver>;
  beforeAll(async () => {
    test = await openMicrovmTestDriver({ clonePoolSize: 2 });
  });
  afterAll(async () => {
    expect(await test.driver.list()).toEqual([]);
    await test.end();
  });

  it('keeps nothing of what nobody asked for, and then as many as were asked for at a time', async () => {
    expect(await test.driver.clonesReady()).toBe(0);
    const machines = await Promise.all(['a', 'b'].map((id) => test.driver.create(test.spec(id))));
    for (const machine of machines) await machine.destroy();
    expect(await test.driver.clonesReady()).toBe(2);
  });

  it('gives clones that are machines like any other, each with its own disk, names and random numbers', async () => {
    const machines = await Promise.all(['c', 'd'].map((id) => test.driver.create(test.spec(id))));
    const look = 'hostname; cat /etc/machine-id; head -c 16 /dev/urandom | md5sum';
    const said = await Promise.all(
      machines.map((machine) => runInside(machine, `${look}; echo $$ > /root/mine; ls /root`)),
    );
    const lines = said.map(({ stdout }) => stdout.trim().split('\n'));
    expect(lines.map((each) => each[0])).toEqual(['c', 'd']);
    for (const column of [1, 2]) expect(lines[0]?.[column]).not.toBe(lines[1]?.[column]);
    expect(lines.map((each) => each[3])).toEqual(['mine', 'mine']);
    for (const machine of machines) await machine.destroy();
  });

  it('goes on without a clone that died', async () => {
    expect(await test.driver.clonesReady()).toBe(2);
    const ready = await readyClones();
    expect(ready).toHaveLength(2);
    for (const clone of ready) {
      process.kill(clone.pid, 'SIGKILL');
      await waitUntilDead(clone);
    }
    const machine = await test.driver.create(test.spec('e'));
    expect(await runInside(machine, 'echo well')).toMatchObject({ stdout: 'well\n' });
    await machine.destroy();
    await test.driver.clonesReady();
  });

  async function readyClones(): Promise<readonly ProcessRef[]> {
    const { installationId } = JSON.parse(await readFile(join(test.dataDir, 'installation.json'), 'utf8'));
    const hierarchy = await readCgroupHierarchy();
    const vessels = await readdir(`/run/caisson/${installationId}`, { withFileTypes: true });
    const ids = vessels.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    const groups = ids.map((id) => openCgroup(hierarchy, `caisson/${installationId}/${id}`).processes());
    const clones = await Promise.all((await Promise.all(groups)).flat().map(findProcess));
    return clones.filter((clone) => clone !== null);
  }
});
