import { vi } from 'vitest';
import { createContainerDriver } from '../container-driver.ts';
import { describeForks } from './forks-suite.ts';
import { gvisorProblem } from './gvisor-test-driver.ts';
import { testKitsDir } from './test-kit.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

describeForks(await gvisorProblem(), async (dataDir) => {
  const driver = await createContainerDriver({ dataDir, networkPoolSize: 0, gvisor: { kitsDir: testKitsDir } });
  return { driver, driverDir: dataDir };
});
