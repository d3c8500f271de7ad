import { vi } from 'vitest';
import { gvisorProblem, openGvisorTestDriver } from './gvisor-test-driver.ts';
import { memorySuite } from './memory-suite.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

memorySuite({
  ...{ name: 'gvisor', problem: await gvisorProblem(), open: openGvisorTestDriver },
  identity: 'cat /etc/hostname',
});
