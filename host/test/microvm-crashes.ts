import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type CrashCase, crashCases, type Fates, memoryCrashSuite } from './memory-crash-suite.ts';
import { withSharedTemplates } from './shared-templates.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

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
/** Where there is a QEMU for the host to lose. */
const losses = cases.filter(({ scene, fate, point }) => {
  if (scene === 'create' || scene === 'fitted') return fate === 'runs' || /claimed|disks-inserted/.test(point);
  return fate === 'runs' || point === 'microvm.suspended';
});

/** Kills hosts, and machines, at the points of the microvm driver. */
export async function describeCrashes(isTried?: (each: CrashCase) => boolean): Promise<void> {
  memoryCrashSuite({
    ...{ driver: 'microvm', problem: await microvmProblem(), cases, losses },
    ...(isTried === undefined ? {} : { isTried }),
    open: ({ dataDir }) => withSharedTemplates(dataDir, (dataDir) => createEmulatedDriver({ dataDir })),
    async prepare(dataDir, { point }) {
      if (point.startsWith('template.')) await rm(join(dataDir, 'templates'), { recursive: true, force: true });
    },
  });
}
