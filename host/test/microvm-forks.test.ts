import { join } from 'node:path';
import { vi } from 'vitest';
import { describeForks } from './forks-suite.ts';
import { withSharedTemplates } from './shared-templates.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describeForks(await microvmProblem(), async (dataDir) => {
  const driverDir = join(dataDir, 'microvm');
  const driver = await withSharedTemplates(driverDir, (dataDir) => createEmulatedDriver({ dataDir }));
  return { driver, driverDir };
});
