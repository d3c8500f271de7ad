import { crashPoint } from '@caisson/contracts/crash-point';
import { limitCgroup } from './cgroup-limits.ts';
import type { BeginCapsule } from './container-create.ts';
import { diskMount, makeDiskDirs } from './container-disk.ts';
import type { CapsuleLayout } from './container-layout.ts';
import { dropVessel, type Vessel, type VesselContext } from './container-vessel.ts';
import type { MachineSpec } from './machine-driver.ts';
import { nameHost } from './oci-bundle.ts';
import { orUndo } from './or-undo.ts';

/** Capsules made of blank vessels that `take` gives. */
export function beginByActivation(
  context: VesselContext,
  {
    skeletonDir,
    take,
  }: { readonly skeletonDir: string; readonly take: (egress: MachineSpec['egress']) => Promise<Vessel> },
): BeginCapsule {
  return async (spec, layout) => {
    const vessel = await take(spec.egress);
    crashPoint('capsule.connected');
    const activate = () => activateVessel(context, { vessel, layout, spec, skeletonDir });
    await orUndo(activate, () => dropVessel(context, vessel));
    return vessel;
  };
}

interface ActivateOptions {
  readonly vessel: Vessel;
  readonly layout: CapsuleLayout;
  readonly spec: MachineSpec;
  /** Lowest layer of every disk. */
  readonly skeletonDir: string;
}

const activateTimeoutMs = 30_000;

/**
 * Makes a blank vessel the capsule of `spec`: limits, hostname, the directories it is shown, and its disk as its root. Nothing inside
 * takes part in it. Throws; the vessel is then of no use any more.
 */
async function activateVessel(
  context: VesselContext,
  { vessel, layout, spec, skeletonDir }: ActivateOptions,
): Promise<void> {
  const disk = diskMount(layout, [...spec.layers, skeletonDir]);
  await makeDiskDirs(layout);
  crashPoint('capsule.prepared');
  const { pid, startTime } = vessel.init;
  const { toolPath, blankRootDir } = context;
  // Pages of /dev/shm count as the capsule's memory, so its size is no more than a courtesy to programs that ask for it.
  const shmBytes = Math.floor(spec.shape.memoryBytes / 2);
  const words = [pid, startTime, spec.hostname, shmBytes, blankRootDir, disk.options].map(String);
  const binds = spec.readOnlyBinds.flatMap(({ from, to }) => [from, to]);
  const done = await Promise.allSettled([
    context.run([toolPath, 'activate', ...words, ...binds], { cwd: disk.cwd, timeoutMs: activateTimeoutMs }),
    nameHost(vessel.layout.bundleDir, spec.hostname),
    limitCgroup(context.hierarchy, vessel.layout.cgroupPath, spec.shape),
  ]);
  // Only now: whoever removes a vessel that failed must not meet a program that is still at its disk.
  for (const result of done) if (result.status === 'rejected') throw result.reason;
  crashPoint('capsule.started');
}
