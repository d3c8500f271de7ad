import { vi } from 'vitest';
import { gvisorProblem, openGvisorTestDriver } from './gvisor-test-driver.ts';
import { memorySuite } from './memory-suite.ts';
import type { TestDriver } from './test-driver.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

/** With room for what gVisor keeps of /proc: on a busy machine the suite starts hundreds of programs of busybox. */
async function openRoomy(): Promise<TestDriver> {
  const test = await openGvisorTestDriver();
  const shape = { cpus: 1, memoryBytes: 512 * 2 ** 20, diskBytes: 2 ** 30, pids: 64 };
  return { ...test, spec: (capsuleId, changes) => test.spec(capsuleId, { shape, ...changes }) };
}

memorySuite({
  ...{ name: 'gvisor', problem: await gvisorProblem(), open: openRoomy },
  identity: 'cat /etc/hostname',
  sizeBytes: 1_000_000,
});
