import { vi } from 'vitest';
import { describeForks } from './forks-suite.ts';
import { createGvisorDriver, gvisorProblem } from './gvisor-test-driver.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

describeForks(await gvisorProblem(), async (dataDir) => {
  return { driver: await createGvisorDriver({ dataDir }), driverDir: dataDir };
});
