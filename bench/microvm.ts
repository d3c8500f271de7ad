import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseAccelerator } from '../host/accelerator-probe.ts';
import type { Machine, MachineSpec, MemorySnapshots } from '../host/machine-driver.ts';
import { createMicrovmDriver, type MicrovmDriver } from '../host/microvm-driver.ts';
import { type DriverUnderTest, openDriverRig } from '../host/test/driver-rig.ts';
import { testKitsDir } from '../host/test/test-kit.ts';
import { needsRoot, openCapsules, runInside } from './capsules.ts';
import { pssMib } from './process-memory.ts';
import type { Bench, Measured, Row, Series } from './row.ts';
import { noSamples, type Samples, sample, timeMs } from './statistics.ts';

const forks = 20;
const dirtyMib = [0, 16, 64];
const mebibyte = 2 ** 20;

/** A machine with a kernel of its own, from nothing to the first answered command. */
export const microvmCreate: Row = {
  id: 'microvm-create',
  title: 'create a micro-virtual machine → first exec answered, serial',
  goals: [],
  obstacle: needsKit,
  measure: measureCreate,
};

/** Its memory to disk and back, by how much of it changed; and twenty of one. */
export const microvmMemory: Row = {
  id: 'microvm-memory',
  title: 'micro-virtual machine: suspend and wake, 20 forks of one that runs, memory of an idle clone',
  goals: [],
  obstacle: needsKit,
  measure: measureMemory,
};

function needsKit(): string | null {
  const hasKit = existsSync(testKitsDir);
  return (
    needsRoot() ?? (hasKit ? null : 'QEMU and a guest kernel are not here; host/test/microvm-life.test.ts fetches them')
  );
}

interface Microvms extends DriverUnderTest<MicrovmDriver> {
  /** What the figures hold for: `KVM`, `TCG`. */
  readonly accelerator: string;
}

async function openMicrovms(
  opened: AsyncDisposableStack,
  options: { readonly templates?: boolean; readonly clonePoolSize: number },
): Promise<Microvms> {
  const kits = { kitsDir: testKitsDir };
  const { accelerator } = await chooseAccelerator({ ...kits, dataDir: join(tmpdir(), 'caisson-test-cache') });
  const rig = await openDriverRig((dataDir) =>
    createMicrovmDriver({ ...kits, dataDir, accelerator, networkPoolSize: 0, ...options }),
  );
  opened.defer(() => rig.end());
  const shape = { cpus: 1, memoryBytes: 256 * mebibyte, diskBytes: 2 ** 30, pids: 64 };
  return {
    ...rig,
    accelerator: accelerator.toUpperCase(),
    spec: (capsuleId, changes) => rig.spec(capsuleId, { shape, ...changes }),
  };
}

const noteOf = (accelerator: string) =>
  `Measured with ${accelerator}${accelerator === 'TCG' ? ', that is emulation: these are not figures of KVM' : ''}. Busybox (2 MB) as the image; 1 CPU, 256 MiB.`;

async function measureCreate(bench: Bench): Promise<Measured> {
  await using opened = new AsyncDisposableStack();
  const cold = await openMicrovms(opened, { templates: false, clonePoolSize: 0 });
  const cloned = await openMicrovms(opened, { clonePoolSize: 0 });
  const pooled = await openMicrovms(opened, { clonePoolSize: 2 });
  const containers = await openCapsules({ blankPoolSize: 0 });
  opened.defer(() => containers.end());
  const ways = { cold: noSamples(), cloned: noSamples(), pooled: noSamples(), container: noSamples() };
  // The first of each shape makes the template, and tells the pool what is wanted.
  for (const each of [cloned, pooled]) await createOne(each, 'first', noSamples());
  for (let index = 0; index < bench.count(10) && !bench.signal.aborted; index++) {
    await createOne(cold, `cold${index}`, ways.cold);
    await createOne(cloned, `clone${index}`, ways.cloned);
    await pooled.driver.clonesReady();
    await createOne(pooled, `pool${index}`, ways.pooled);
    await createOne(containers, `container${index}`, ways.container);
  }
  const { accelerator } = cold;
  return {
    series: [
      times(`booted (${accelerator})`, ways.cold),
      times(`from a template (${accelerator})`, ways.cloned),
      times(`from a warm pool (${accelerator})`, ways.pooled),
      { ...times('a container, no pool', ways.container), role: 'baseline' },
    ],
    notes: [noteOf(accelerator), 'The bench waits until the pool is full, outside the time.'],
  };
}

async function createOne(
  { driver, spec }: { driver: { create(spec: MachineSpec): Promise<Machine> }; spec(id: string): MachineSpec },
  capsuleId: string,
  into: Samples,
): Promise<void> {
  const made: Machine[] = [];
  await sample(into, () =>
    timeMs(async () => {
      const machine = await driver.create(spec(capsuleId));
      made.push(machine);
      await runInside(machine, ['/bin/true']);
    }),
  );
  for (const machine of made) await machine.destroy();
}

async function measureMemory(bench: Bench): Promise<Measured> {
  await using opened = new AsyncDisposableStack();
  const machines = await openMicrovms(opened, { clonePoolSize: 0 });
  const { memory } = machines.driver;
  if (memory === undefined) throw new Error('this driver has no snapshots that hold memory');
  const series: Series[] = [];
  for (const sizeMib of dirtyMib) series.push(...(await measureSleep(bench, { machines, memory, sizeMib })));
  series.push(...(await measureForks(bench, machines, memory)));
  const notes = [
    'Dirty memory is a file of random bytes in /dev/shm, besides what a machine changes by itself. Suspend ends when everything is synced to the disk; wake includes the first answered command.',
    `${forks} forks at once: from the call to the last first answer. Memory is the proportional set size of QEMU.`,
  ];
  return { series, notes: [noteOf(machines.accelerator), ...notes] };
}

interface Sleep {
  readonly machines: Microvms;
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
  const what = `${sizeMib} MiB dirty (${machines.accelerator})`;
  return [times(`suspend, ${what}`, suspended), times(`wake, ${what}`, woken)];
}

async function measureForks(bench: Bench, machines: Microvms, memory: MemorySnapshots): Promise<readonly Series[]> {
  const { driver, spec, accelerator, dataDir, imageDir } = machines;
  const [taken, forked, idle] = [noSamples(), noSamples(), noSamples()];
  await runInside(await driver.create(spec('base')), ['/bin/true']);
  for (let round = 0; round < bench.count(3) && !bench.signal.aborted; round++) {
    const directory = join(dataDir, `snapshot${round}`);
    await sample(taken, () => timeMs(() => memory.snapshot('base', directory)));
    const ids = Array.from({ length: forks }, (_, index) => `fork${round}-${index}`);
    const forkOne = async (id: string) =>
      runInside(await memory.restore(directory, spec(id, { layers: [directory, imageDir] })), ['/bin/true']);
    await sample(forked, () => timeMs(() => Promise.all(ids.map(forkOne))));
    for (const id of ids) await sample(idle, () => pssOf(machines, id));
    await Promise.all(ids.map((id) => driver.destroy(id)));
    await rm(directory, { recursive: true, force: true });
  }
  return [
    times(`snapshot of one that runs (${accelerator})`, taken),
    times(`${forks} forks at once (${accelerator})`, forked),
    { name: `each idle fork of ${forks} (${accelerator})`, role: 'ours', unit: 'MiB', samples: idle },
  ];
}

async function pssOf({ driver }: Microvms, capsuleId: string): Promise<number> {
  const pid = driver.qemuPid(capsuleId);
  if (pid === null) throw new Error(`${capsuleId} does not run`);
  return pssMib(pid);
}

function times(name: string, samples: Samples): Series {
  return { name, role: 'ours', unit: 'ms', samples };
}
