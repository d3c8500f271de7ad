import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { watchCrashPoints } from '@caisson/contracts/crash-point';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openCgroup } from '../cgroup-capsule.ts';
import { readCgroupHierarchy } from '../cgroup-hierarchy.ts';
import { findProcess, type ProcessRef, waitUntilDead } from '../container-process.ts';
import type { Machine, MachineSpec } from '../machine-driver.ts';
import type { MicrovmDriver } from '../microvm-driver.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { runInside } from './test-driver.ts';
import { microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** What the first program of an image leaves behind, if it can: files, and a process. */
const nosyShell = `#!/bin/busybox sh
for place in / /tmp /root /dev/shm; do echo seen > $place/seen; done 2> /dev/null
busybox mount -o remount,rw / 2> /dev/null && echo seen > /seen
(exec busybox sleep 1000) &
exec busybox sh "$@"
`;
/** What there is of a machine that a program could have left. */
const traces =
  'find / /dev/shm -xdev | sort; df -i / | tail -1; ps | grep -v "\\["; cat /proc/mounts | wc -l; id; hostname';

describe.skipIf(problem !== null)('the pool of warm clones', () => {
  let test: DriverUnderTest<MicrovmDriver>;
  let taken = 0;
  let aheadMs = 0;
  beforeAll(async () => {
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + aheadMs);
    test = await openMicrovmTestDriver({ clonePoolSize: 2 });
    watchCrashPoints((name) => {
      if (name === 'microvm.fitted-taken') taken++;
    });
  });
  afterAll(async () => {
    vi.restoreAllMocks();
    watchCrashPoints(() => {});
    const left = await test.driver.list();
    await test.end();
    expect(left).toEqual([]);
  });

  it('keeps nothing of what nobody asked for, and then as many as were asked for at a time', async () => {
    expect(await test.driver.clonesReady()).toBe(0);
    const machines = await createAll('a', 'b');
    await destroyAll(machines);
    expect(await test.driver.clonesReady()).toBe(2);
    expect(await test.driver.clonesReady(test.spec('a'))).toBe(0);
  });

  it('gives clones that are machines like any other, each with its own disk, names and random numbers', async () => {
    await expectDistinct('c', 'd');
    expect(taken).toBe(0);
  });

  it('keeps such that are all but named when the same is asked for again, and they are machines like any other', async () => {
    await untilFitted(2);
    await expectDistinct('e', 'f');
    expect(taken).toBeGreaterThanOrEqual(2);
  });

  it('goes on without a clone that died', async () => {
    await untilFitted(2);
    const ready = await readyClones();
    expect(ready).toHaveLength(2);
    for (const clone of ready) {
      process.kill(clone.pid, 'SIGKILL');
      await waitUntilDead(clone);
    }
    const machine = await test.driver.create(test.spec('g'));
    expect(await runInside(machine, 'echo well')).toMatchObject({ stdout: 'well\n' });
    await machine.destroy();
  });

  it('gives nothing to whom it is not for, and shows nobody what it ran before, whatever the image', async () => {
    const top = join(test.dataDir, 'layers/top/diff');
    const layers = [top, test.imageDir];
    await makeTop(top, 'old');
    const [first] = await createAll({ capsuleId: 'h', layers });
    const shell = { argv: ['/bin/busybox', 'sh', '-c', traces] } as const;
    const expected = first && (await runInside(first, '', shell)).stdout;
    expect(expected).toContain('/bin/busybox');
    await first?.destroy();
    await untilFitted(1, { layers });
    const before = taken;
    const [fitted] = await createAll({ capsuleId: 'h', layers });
    expect(taken).toBe(before + 1);
    expect(fitted && (await runInside(fitted, '', shell)).stdout).toBe(expected);
    await fitted?.destroy();

    await untilFitted(1, { layers });
    const { shape } = test.spec('i');
    await destroyAll(await createAll({ capsuleId: 'i', layers, shape: { ...shape, diskBytes: 2 ** 29 } }));
    expect(taken).toBe(before + 1);
    // Another directory in the place of one that is gone.
    await rm(join(top, '..'), { recursive: true });
    await makeTop(top, 'new');
    const [machine] = await createAll({ capsuleId: 'j', layers });
    expect(machine && (await runInside(machine, 'cat /which'))).toMatchObject({ stdout: 'new\n' });
    await machine?.destroy();
    expect(taken).toBe(before + 1);
    expect(await test.driver.clonesReady(test.spec('j', { layers }))).toBe(0);
  });

  type Change = Partial<MachineSpec> & Pick<MachineSpec, 'capsuleId'>;

  function createAll(...machines: readonly (string | Change)[]): Promise<readonly Machine[]> {
    const changes = machines.map((each) => (typeof each === 'string' ? { capsuleId: each } : each));
    return Promise.all(changes.map((each) => test.driver.create(test.spec(each.capsuleId, each))));
  }

  async function destroyAll(machines: readonly Machine[]): Promise<void> {
    for (const machine of machines) await machine.destroy();
  }

  /** Asks until the pool has seen that it is asked again. */
  async function untilFitted(count: number, changes: Partial<MachineSpec> = {}): Promise<void> {
    const ids = Array.from({ length: count }, (_, index) => `until${index}`);
    while ((await test.driver.clonesReady(test.spec('', changes))) < count) {
      aheadMs += 2_000;
      await destroyAll(await createAll(...ids.map((capsuleId) => ({ ...changes, capsuleId }))));
    }
  }

  async function expectDistinct(...ids: readonly string[]): Promise<void> {
    const machines = await createAll(...ids);
    const look = 'hostname; cat /etc/machine-id; head -c 16 /dev/urandom | md5sum';
    const said = await Promise.all(
      machines.map((machine) => runInside(machine, `${look}; echo $$ > /root/mine; ls /root`)),
    );
    const lines = said.map(({ stdout }) => stdout.trim().split('\n'));
    expect(lines.map((each) => each[0])).toEqual(ids);
    for (const column of [1, 2]) expect(new Set(lines.map((each) => each[column])).size).toBe(ids.length);
    expect(lines.map((each) => each[3])).toEqual(ids.map(() => 'mine'));
    await destroyAll(machines);
  }

  async function makeTop(directory: string, which: string): Promise<void> {
    await mkdir(join(directory, 'bin'), { recursive: true });
    await writeFile(join(directory, 'which'), `${which}\n`);
    await writeFile(join(directory, 'bin/sh'), nosyShell);
    await chmod(join(directory, 'bin/sh'), 0o755);
  }

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
