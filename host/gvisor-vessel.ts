import { mkdir } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { BeginCapsule } from './container-create.ts';
import { diskMount, makeDiskDirs } from './container-disk.ts';
import type { BodyParts } from './container-driver.ts';
import type { CapsuleLayout, VesselLayout } from './container-layout.ts';
import { makeRunDir, makeVessel, runningVessel, type Vessel } from './container-vessel.ts';
import { exists } from './exists.ts';
import { connectGuest } from './guest-channel.ts';
import { writeGvisorBundle } from './gvisor-bundle.ts';
import { type GvisorRuntime, launchGvisor, placesIn, runscArgv, runscFor } from './gvisor-launch.ts';
import type { MachineSpec } from './machine-driver.ts';
import { makeCgroup } from './make-cgroup.ts';
import { type NetworkSlot, namespacePath } from './network-slot.ts';

/** What it takes to start gVisor's vessels. */
export interface GvisorVessels extends BodyParts {
  readonly runtime: GvisorRuntime;
}

const startTimeoutMs = 30_000;
const greetingTimeoutMs = 10_000;
/** gVisor's own memory, and that of the program that starts it, besides what the capsule may take. */
const ownMemoryBytes = 64 * 2 ** 20;
/** Threads of gVisor's own, and out here for each that a capsule may have. */
const ownThreads = 192;
const threadsEach = 2;

/** Begins capsules anew, or where the memory in `imageDir` stopped; on any failure nothing is left but the disk. */
export function beginGvisor(context: GvisorVessels, imageDir: string | null = null): BeginCapsule {
  const failure = 'a gVisor capsule could not be started';
  return (spec, disk) =>
    makeVessel(context, { egress: spec.egress, failure }, (layout, slot) =>
      start(context, { spec, disk, layout, slot, imageDir }),
    );
}

interface Beginning {
  readonly spec: MachineSpec;
  readonly disk: CapsuleLayout;
  readonly layout: VesselLayout;
  readonly slot: NetworkSlot | null;
  readonly imageDir: string | null;
}

async function start(context: GvisorVessels, { spec, disk, layout, slot, imageDir }: Beginning): Promise<Vessel> {
  crashPoint('vessel.connected');
  const { bundleDir, pidFile, vesselId } = layout;
  const places = placesIn(layout);
  await makeRunDir(layout);
  await mkdir(places.rootDir);
  // One that wakes has its disk.
  if (await exists(disk.upperDir)) await mkdir(disk.workDir, { mode: 0o700 });
  else await makeDiskDirs(disk);
  const binds = spec.readOnlyBinds.map(({ from, to }, index) => ({ from, to, at: places.shownDir(index) }));
  await writeGvisorBundle({
    ...{ ...places, layout, spec, binds, networkNamespace: slot?.namespace ?? null },
    ...{ cgroupMode: context.hierarchy.mode, maxOpenFiles: context.maxOpenFiles },
  });
  const groupFiles = await makeCgroup(context.hierarchy, layout.cgroupPath, limitsOf(spec.shape));
  crashPoint('vessel.prepared');
  const begin = imageDir === null ? ['run'] : ['restore', '--image-path', imageDir];
  await launchGvisor(context.run, {
    ...{ layout, groupFiles, timeoutMs: startTimeoutMs, namespacePath: slot && namespacePath(slot) },
    disk: diskMount(disk, [...spec.layers, context.skeletonDir]),
    shown: [
      { from: context.agentPath, at: places.agentPath },
      { from: context.network.resolvConfPath, at: places.resolvConfPath },
      ...binds,
    ],
    argv: [
      ...runscArgv(context.runtime, layout, slot !== null),
      ...[...begin, '--detach', '--bundle', bundleDir, '--pid-file', pidFile, vesselId],
    ],
  });
  crashPoint('vessel.started');
  const vessel = await meetGvisor(context, layout, slot);
  if (vessel === null) throw new AppError('provision_failed', 'gVisor ended at once');
  return vessel;
}

/** What is counted is gVisor with all it holds for the capsule, its programs' memory above all. */
function limitsOf({ memoryBytes, cpus, pids }: MachineSpec['shape']) {
  return { memoryBytes: memoryBytes + ownMemoryBytes, cpus, pids: ownThreads + threadsEach * pids };
}

/**
 * Takes up a vessel that may have been made to stand while its memory was kept; null when its gVisor is dead, `provision_failed` when
 * its agent does not answer.
 */
export async function takeUpGvisor(
  context: GvisorVessels,
  layout: VesselLayout,
  slot: NetworkSlot | null,
): Promise<Vessel | null> {
  // An error: it does not stand, or is dead.
  await runscFor(context, layout, slot !== null)(['resume', layout.vesselId]).catch(() => {});
  return meetGvisor(context, layout, slot);
}

/** Connects to the agent of a vessel; null when its gVisor is dead, `provision_failed` when it does not answer. */
async function meetGvisor(
  { hierarchy }: Pick<GvisorVessels, 'hierarchy'>,
  layout: VesselLayout,
  slot: NetworkSlot | null,
): Promise<Vessel | null> {
  const running = await runningVessel(hierarchy, layout);
  if (running === null) return null;
  const guest = await connectGuest(placesIn(layout).pipes, { greetingTimeoutMs }).catch((cause: unknown) => {
    throw new AppError('provision_failed', 'the agent does not answer', { cause });
  });
  crashPoint('agent.greeted');
  // gVisor takes the addresses out of the namespace.
  return { ...running, layout, guest, slot, keepsSlot: false };
}
