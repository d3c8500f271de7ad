import { existsSync } from 'node:fs';
import { testKitsDir } from '../host/test/test-kit.ts';
import { needsRoot, openCapsules } from './capsules.ts';
import { measureSnapshots, snapshotsNote, times } from './memory-snapshots.ts';
import { createOne } from './microvm.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples } from './statistics.ts';

/** A capsule with a kernel that is a program: from nothing to its first answered command, its memory to disk and back, and twenty of one. */
export const gvisorMemory: Row = {
  id: 'gvisor-memory',
  title: 'gVisor capsule: create, suspend and wake, 20 forks of one that runs, memory of an idle fork',
  goals: [],
  obstacle: () => needsRoot() ?? (existsSync(testKitsDir) ? null : 'host/test/gvisor-life.test.ts fetches runsc'),
  measure,
};

async function measure(bench: Bench): Promise<Measured> {
  await using opened = new AsyncDisposableStack();
  const capsules = await openCapsules({ gvisor: { kitsDir: testKitsDir } });
  opened.defer(() => capsules.end());
  const containers = await openCapsules({ blankPoolSize: 0 });
  opened.defer(() => containers.end());
  const ways = { gvisor: noSamples(), container: noSamples() };
  for (let index = 0; index < bench.count(10) && !bench.signal.aborted; index++) {
    await createOne(capsules, `gvisor${index}`, ways.gvisor);
    await createOne(containers, `container${index}`, ways.container);
  }
  const memoryMib = async (capsuleId: string) => {
    const machine = await capsules.driver.adopt(capsuleId);
    if (machine === null) throw new Error(`${capsuleId} does not run`);
    return (await machine.usage()).memoryBytes / 2 ** 20;
  };
  const label = capsules.driver.capabilities.runtime;
  const snapshots = await measureSnapshots(bench, { ...capsules, label: 'gVisor', memoryMib });
  return {
    series: [
      times('create → first exec answered, gVisor', ways.gvisor),
      { ...times('the same, a container, no pool', ways.container), role: 'baseline' },
      ...snapshots,
    ],
    notes: [
      `${label}. Busybox (2 MB) as the image; 1 CPU.`,
      snapshotsNote,
      'Memory is what is charged to the capsule.',
    ],
  };
}
