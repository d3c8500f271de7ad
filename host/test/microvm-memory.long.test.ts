import { vi } from 'vitest';
import { memorySuite } from './memory-suite.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { microvmProblem } from './test-kit.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

memorySuite({
  ...{ name: 'microvm', problem: await microvmProblem(), open: openMicrovmTestDriver },
  identity: 'read id < /etc/machine-id; echo $id',
  sizeBytes: 1_000_000,
});
