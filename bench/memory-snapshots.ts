import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { MemorySnapshots } from '../host/machine-driver.ts';
import type { DriverUnderTest } from '../host/test/driver-rig.ts';
import { runInside } from './capsules.ts';
import type { Bench, Series } from './row.ts';
import { noSamples, type Samples, sample, timeMs } from './statistics.ts';

const forks = 20;
const dirtyMib = [0, 16, 64];
const mebibyte = 2 ** 20;

export const snapshotsNote = `Dirty memory is a file of random bytes in /dev/shm, besides what a capsule changes by itself. Suspend ends when everything is synced to the disk; wake includes the first answered command. ${forks} forks at once: from the call to the last first answer.`;

/** Capsules whose memory can be kept. */
export interface Machines extends DriverUnderTest {
  /** What the figures hold for, e.g. `TCG`. */
  readonly label: string;
  /** What one takes of the host. */
  readonly memoryMib: (capsuleId: string) => Promise<number>;
}

/** Memory to disk and back, by how much of it changed; and twenty forks of one capsule. */
export async function measureSnapshots(bench: Bench, machines: Machines): Promise<readonly Series[]> {
  const { memory } = machines.driver;
  if (memory === undefined) throw new Error('this driver has no snapshots that hold memory');
  const series: Series[] = [];
  for (const sizeMib of dirtyMib) series.push(...(await measureSleep(bench, { machines, memory, sizeMib })));
  series.push(...(await measureForks(bench, machines, memory)));
  return series;
}

interface Sleep {
  readonly machines: Machines;
  readonly memory: MemorySnapshots;
  readonly sizeMib: number;
}

async function measureSleep(bench: Bench, { machines, memory, sizeMib }: Sleep): Promise<readonly Series[]> {
  const [suspended, woken] = [noSamples(), noSamples()];
  const spec = machines.spec(`sleeper${sizeMib}`);
  const fill = `head -c ${sizeMib * mebibyte} /dev/urandom > /dev/shm/file`;
  await runInside(await machines.driver.create(spec), ['/bin/sh', '-c', fill]);
  for (let round = 0; round < bench.count(10) && !bench.signal.aborted; round++) {
    await sample(suspended, () => timeMs(() => memory.suspend(spec.capsuleId)));
    await sample(woken, () => timeMs(async () => runInside(await memory.wake(spec), ['/bin/true'])));
  }
  await machines.driver.destroy(spec.capsuleId);
  const what = `${sizeMib} MiB dirty (${machines.label})`;
  return [times(`suspend, ${what}`, suspended), times(`wake, ${what}`, woken)];
}

async function measureForks(bench: Bench, machines: Machines, memory: MemorySnapshots): Promise<readonly Series[]> {
  const { driver, spec, label, dataDir, imageDir, memoryMib } = machines;
  const [taken, forked, idle] = [noSamples(), noSamples(), noSamples()];
  await runInside(await driver.create(spec('base')), ['/bin/true']);
  for (let round = 0; round < bench.count(3) && !bench.signal.aborted; round++) {
    const directory = join(dataDir, `snapshot${round}`);
    await sample(taken, () => timeMs(() => memory.snapshot('base', directory)));
    const ids = Array.from({ length: forks }, (_, index) => `fork${round}-${index}`);
    const forkOne = async (id: string) =>
      runInside(await memory.restore(directory, spec(id, { layers: [directory, imageDir] })), ['/bin/true']);
    await sample(forked, () => timeMs(() => Promise.all(ids.map(forkOne))));
    for (const id of ids) await sample(idle, () => memoryMib(id));
    await Promise.all(ids.map((id) => driver.destroy(id)));
    await rm(directory, { recursive: true, force: true });
  }
  return [
    times(`snapshot of one that runs (${label})`, taken),
    times(`${forks} forks at once (${label})`, forked),
    { name: `each idle fork of ${forks} (${label})`, role: 'ours', unit: 'MiB', samples: idle },
  ];
}

export function times(name: string, samples: Samples): Series {
  return { name, role: 'ours', unit: 'ms', samples };
}
