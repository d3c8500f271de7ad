import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Machine, MemorySnapshots } from '../machine-driver.ts';
import type { MicrovmDriver } from '../microvm-driver.ts';
import { holdGuest } from '../microvm-guest.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { runInside } from './test-driver.ts';
import { microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

/** Counts as fast as it can, before the agent and everybody else. */
const program = 'renice -n -20 -p $$ > /dev/null; i=0; while :; do i=$((i+1)); echo $i; done > /dev/shm/counted';

describe.skipIf(problem !== null)('programs of a machine', () => {
  let test: DriverUnderTest<MicrovmDriver>;
  let machine: Machine;
  beforeAll(async () => {
    test = await openMicrovmTestDriver();
    machine = await test.driver.create(test.spec('base'));
    const argv = ['/bin/sh', '-c', program] as const;
    await machine.guest.exec({ argv, env: { PATH: '/bin' }, cwd: '/', processId: 7 });
    await runInside(machine, 'until [ -s /dev/shm/counted ]; do :; done');
  });
  afterAll(() => test.end());

  it('stand while it is held, those that are started meanwhile too, and go on when it hears an identity', async () => {
    await holdGuest(machine.guest);
    const held = await counted(machine);
    const late = machine.guest.exec({ argv: ['/bin/true'], env: {}, cwd: '/' });
    const isLate = Promise.race([late.then(() => false), machine.guest.ping().then(() => true)]);
    // What is asked of the agent takes a while, in which a program that could run would.
    for (let times = 0; times < 5; times += 1) expect(await counted(machine)).toBe(held);
    expect(await isLate).toBe(true);
    await machine.guest.identify([]);
    expect(await (await late).exit).toMatchObject({ exitCode: 0 });
    await expect.poll(() => counted(machine), { timeout: 30_000 }).toBeGreaterThan(held);
  });

  it('go on in a machine of which a snapshot was taken, and in its fork', async () => {
    const memory = test.driver.memory as MemorySnapshots;
    const directory = join(test.dataDir, 'snapshot');
    await memory.snapshot('base', directory);
    const spec = test.spec('fork', { layers: [directory, test.imageDir] });
    for (const each of [machine, await memory.restore(directory, spec)]) {
      const before = await counted(each);
      await expect.poll(() => counted(each), { timeout: 30_000 }).toBeGreaterThan(before);
      expect((await runInside(each, 'cat /sys/fs/cgroup/capsule/programs/cgroup.freeze')).stdout).toBe('0\n');
      await each.destroy();
    }
  });
});

/** Read by the agent itself. */
async function counted(machine: Machine): Promise<number> {
  return (await text(machine.guest.readFile('/dev/shm/counted'))).length;
}
