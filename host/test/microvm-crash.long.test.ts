import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { vi } from 'vitest';
import { crashCases, type Fates, memoryCrashSuite } from './memory-crash-suite.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const creation: Fates = {
  'template.begun': 'is gone',
  'template.saved': 'is gone',
  'microvm.founded': 'is gone',
  'microvm.vessel-started': 'is gone',
  'microvm.claimed': 'is gone',
  'microvm.disks-inserted': 'is gone',
  'microvm.runs': 'runs',
  'microvm.killed': 'is gone',
};
/** What stands ready for the next of its kind is nobody's, and then its alone. */
const taking: Fates = {
  'microvm.fitted-disk-made': 'is gone',
  'microvm.fitted': 'is gone',
  'microvm.fitted-taken': 'is gone',
  'microvm.fitted-disk-moved': 'is gone',
  'microvm.claimed': 'is gone',
  'microvm.runs': 'runs',
};
const saving: Fates = { 'microvm.stands': 'runs', 'microvm.memory-saved': 'runs' };
const sleeping: Fates = {
  ...saving,
  'microvm.memory-published': 'runs',
  'microvm.suspended': 'sleeps',
  'microvm.killed': 'sleeps',
  'microvm.memory-loaded': 'sleeps',
  'microvm.woken': 'runs',
};
const cases = crashCases({ create: creation, fitted: taking, snapshot: saving, suspend: sleeping });

memoryCrashSuite({
  ...{ driver: 'microvm', problem: await microvmProblem(), open: createEmulatedDriver, cases },
  // Where there is a QEMU for the host to lose.
  losses: cases.filter(
    ({ scene, fate, point }) => !/create|fitted/.test(scene) && (fate === 'runs' || point === 'microvm.suspended'),
  ),
  async prepare(dataDir, { point }) {
    if (point.startsWith('template.')) await rm(join(dataDir, 'templates'), { recursive: true, force: true });
  },
});
