import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseAccelerator } from '../host/accelerator-probe.ts';
import type { Machine, MachineSpec } from '../host/machine-driver.ts';
import { createMicrovmDriver, type MicrovmDriver } from '../host/microvm-driver.ts';
import { type DriverUnderTest, openDriverRig } from '../host/test/driver-rig.ts';
import { testKitsDir } from '../host/test/test-kit.ts';
import { needsRoot, openCapsules, runInside } from './capsules.ts';
import { measureSnapshots, snapshotsNote, times } from './memory-snapshots.ts';
import { pssMib } from './process-memory.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, type Samples, sample, timeMs } from './statistics.ts';

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
  const fitted = await openMicrovms(opened, { clonePoolSize: 2 });
  const containers = await openCapsules({ blankPoolSize: 0 });
  opened.defer(() => containers.end());
  const ways = {
    cold: noSamples(),
    cloned: noSamples(),
    pooled: noSamples(),
    fitted: noSamples(),
    container: noSamples(),
  };
  // The first of each shape makes the template, and tells the pool what is wanted.
  for (const each of [cloned, pooled, fitted]) await createOne(each, 'first', noSamples());
  while (!bench.signal.aborted && (await fitted.driver.clonesReady(fitted.spec(''))) === 0)
    await createOne(fitted, 'again', noSamples());
  // Whatever is made ready for the next must not be paid for by others.
  const settled = () => Promise.all([pooled.driver.clonesReady(), fitted.driver.clonesReady()]);
  for (let index = 0; index < bench.count(10) && !bench.signal.aborted; index++) {
    await createOne(cold, `cold${index}`, ways.cold);
    await createOne(cloned, `clone${index}`, ways.cloned);
    await createOne(withDisk(pooled, 2 ** 30 + (index + 1) * mebibyte), `pool${index}`, ways.pooled);
    await settled();
    await createOne(fitted, `fitted${index}`, ways.fitted);
    await settled();
    await createOne(containers, `container${index}`, ways.container);
  }
  const { accelerator } = cold;
  return {
    series: [
      times(`booted (${accelerator})`, ways.cold),
      times(`from a template (${accelerator})`, ways.cloned),
      times(`from a warm pool (${accelerator})`, ways.pooled),
      times(`from a warm pool, of a kind asked for before (${accelerator})`, ways.fitted),
      { ...times('a container, no pool', ways.container), role: 'baseline' },
    ],
    notes: [
      noteOf(accelerator),
      'The bench waits until the pool is full, outside the time. A kind is asked for before when layers and shape are the same; then a clone can have its disk mounted, and has run a shell.',
    ],
  };
}

/** A disk of another size is another kind of machine, for which no clone is ready but a blank one. */
function withDisk({ driver, spec }: Microvms, diskBytes: number): Pick<Microvms, 'driver' | 'spec'> {
  return { driver, spec: (id) => spec(id, { shape: { ...spec(id).shape, diskBytes } }) };
}

/** From the call to the first answered command. */
export async function createOne(
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
  const { driver, accelerator } = machines;
  const memoryMib = async (capsuleId: string) => {
    const pid = driver.qemuPid(capsuleId);
    if (pid === null) throw new Error(`${capsuleId} does not run`);
    return pssMib(pid);
  };
  const series = await measureSnapshots(bench, { ...machines, label: accelerator, memoryMib });
  const notes = ['Memory is the proportional set size of QEMU.'];
  return { series, notes: [noteOf(accelerator), snapshotsNote, ...notes] };
}
