import { vi } from 'vitest';
import { createGvisorDriver, gvisorProblem } from './gvisor-test-driver.ts';
import { crashCases, type Fates, memoryCrashSuite } from './memory-crash-suite.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const creation: Fates = {
  'vessel.connected': 'is gone',
  'vessel.prepared': 'is gone',
  'vessel.started': 'is gone',
  'agent.greeted': 'is gone',
};
const saving: Fates = { 'gvisor.stands': 'runs', 'gvisor.memory-saved': 'runs' };
const sleeping: Fates = {
  ...saving,
  'gvisor.suspended': 'sleeps',
  'gvisor.memory-loaded': 'sleeps',
  'gvisor.noted': 'sleeps',
  'gvisor.woken': 'runs',
};

memoryCrashSuite({
  ...{ driver: 'gvisor', problem: await gvisorProblem(), open: createGvisorDriver },
  cases: crashCases({ create: creation, snapshot: saving, suspend: sleeping }),
});
