import { describe, vi } from 'vitest';
import { driverContract } from './driver-contract.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
// Six guests that boot at once, emulated, on a machine that does other things as well.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(problem !== null)('with QEMU', () => {
  driverContract('microvm', openMicrovmTestDriver);
});
