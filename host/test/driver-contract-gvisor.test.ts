import { describe, vi } from 'vitest';
import { driverContract } from './driver-contract.ts';
import { gvisorProblem, openGvisorTestDriver } from './gvisor-test-driver.ts';

const problem = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

describe.skipIf(problem !== null)('with runsc', () => {
  driverContract('gvisor', openGvisorTestDriver);
});
