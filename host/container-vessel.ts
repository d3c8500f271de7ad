import { chown, mkdir, rm } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleNetwork } from './capsule-network.ts';
import { type CapsuleCgroup, openCgroup } from './cgroup-capsule.ts';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { unmountBelow } from './container-disk.ts';
import { asAppError } from './container-errors.ts';
import { type Installation, newVesselId, type VesselLayout, vesselLayoutOf } from './container-layout.ts';
import { findInit, isAlive, killStarters, type ProcessRef, waitUntilDead } from './container-process.ts';
import type { Gate } from './gate.ts';
import { connectGuest } from './guest-channel.ts';
import type { GuestLink } from './guest-link.ts';
import { idMap } from './id-map.ts';
import type { MachineSpec } from './machine-driver.ts';
import type { NetworkSlot } from './network-slot.ts';
import { writeBundle } from './oci-bundle.ts';
import { type OciRuntime, startContainer } from './oci-runtime.ts';
import type { RunBriefly } from './resident-programs.ts';
import type { Strays } from './strays.ts';

/** What it takes to start vessels. */
export interface VesselContext {
  readonly installation: Installation;
  readonly hierarchy: CgroupHierarchy;
  readonly network: CapsuleNetwork;
  readonly runtime: OciRuntime;
  /** What a vessel has as its root: places to mount on, and nothing else. */
  readonly blankRootDir: string;
  /** The agent, for its modes out here. */
  readonly toolPath: string;
  /** What runs inside as init. */
  readonly agentPath: string;
  readonly maxOpenFiles: number;
  /** Starts of containers at a time: more only get in each other's way. */
  readonly startGate: Gate;
  readonly run: RunBriefly;
  /** Vessels of nobody that could not be removed. */
  readonly strays: Strays;
}

/**
 * A container that runs with every wall around it and its agent as init, on an empty root: blank, until it is activated as a capsule.
 */
export interface Vessel {
  readonly layout: VesselLayout;
  readonly cgroup: CapsuleCgroup;
  readonly init: ProcessRef;
  readonly guest: GuestLink;
  readonly slot: NetworkSlot | null;
  /** Whether another capsule may have the slot after this one, when it left no sockets. */
  readonly keepsSlot: boolean;
}

const startTimeoutMs = 30_000;
const greetingTimeoutMs = 10_000;

/** Starts a vessel. On any failure nothing is left of it; throws `provision_failed`. */
export function startVessel(context: VesselContext, egress: MachineSpec['egress']): Promise<Vessel> {
  const failure = 'a container could not be started';
  return makeVessel(context, { egress, failure }, (layout, slot) => start(context, layout, slot));
}

/**
 * Makes a vessel by `start`, which gets its network slot, when it is its turn. On any failure nothing is left of it; throws
 * `provision_failed`, which begins with the words of `failure` unless `start` says why itself.
 */
export async function makeVessel(
  context: DropContext & Pick<VesselContext, 'installation' | 'startGate'>,
  { egress, failure }: { readonly egress: MachineSpec['egress']; readonly failure: string },
  start: (layout: VesselLayout, slot: NetworkSlot | null) => Promise<Vessel>,
): Promise<Vessel> {
  const layout = vesselLayoutOf(context.installation, newVesselId());
  return context.startGate(async () => {
    const slot = egress === 'internet' ? await context.network.pool.acquire() : null;
    try {
      return await start(layout, slot);
    } catch (error) {
      await dropVessel(context, { layout, slot });
      throw asAppError(error, 'provision_failed', failure);
    }
  });
}

/** Makes the directory of all that a vessel runs from. */
export async function makeRunDir({ runDir }: VesselLayout): Promise<void> {
  // The capsule's root, and nobody else who is not root, has to pass through to what is mounted from here.
  await mkdir(runDir, { mode: 0o710 });
  await chown(runDir, 0, idMap.baseId);
}

async function start(context: VesselContext, layout: VesselLayout, slot: NetworkSlot | null): Promise<Vessel> {
  crashPoint('vessel.connected');
  await makeRunDir(layout);
  await writeBundle({
    layout,
    rootDir: context.blankRootDir,
    agentPath: context.agentPath,
    resolvConfPath: context.network.resolvConfPath,
    networkNamespace: slot?.namespace ?? null,
    cgroupMode: context.hierarchy.mode,
    maxOpenFiles: context.maxOpenFiles,
  });
  crashPoint('vessel.prepared');
  await startContainer(context, { layout, timeoutMs: startTimeoutMs });
  crashPoint('vessel.started');
  const vessel = await meetVessel(context, layout, slot);
  if (vessel === null) throw new AppError('provision_failed', 'the agent ended at once');
  return vessel;
}

/** Connects to the agent of a vessel; null when its init is dead, `provision_failed` when it does not answer. */
export async function meetVessel(
  { hierarchy }: Pick<VesselContext, 'hierarchy'>,
  layout: VesselLayout,
  slot: NetworkSlot | null,
): Promise<Vessel | null> {
  const running = await runningVessel(hierarchy, layout);
  if (running === null) return null;
  const guest = await connectGuest(layout.socketPath, { greetingTimeoutMs }).catch(async (cause: unknown) => {
    const fate = (await isAlive(running.init)) ? 'does not answer' : 'ended at once';
    throw new AppError('provision_failed', `the agent ${fate}`, { cause });
  });
  crashPoint('agent.greeted');
  return { ...running, layout, guest, slot, keepsSlot: true };
}

/** The init of a vessel and the control group around it; null when it is dead. */
export async function runningVessel(
  hierarchy: CgroupHierarchy,
  layout: VesselLayout,
): Promise<Pick<Vessel, 'cgroup' | 'init'> | null> {
  const cgroup = openCgroup(hierarchy, layout.cgroupPath);
  const init = await findInit(layout, await cgroup.processes());
  return init && { cgroup, init };
}

/** Kills everything in a vessel. Works on any part of one, and again. */
export async function killVessel(layout: VesselLayout, cgroup: CapsuleCgroup): Promise<void> {
  const init = await findInit(layout, await cgroup.processes());
  await cgroup.killAll(10_000);
  // The init of a pid namespace ends last, with the mounts of the capsule.
  if (init) await waitUntilDead(init);
  crashPoint('takedown.killed');
}

/** Removes what is left of a killed vessel but its network. */
export async function removeVessel(
  { run }: Pick<VesselContext, 'run'>,
  layout: VesselLayout,
  cgroup: CapsuleCgroup,
): Promise<void> {
  const removed = await Promise.allSettled([removeRunDir(layout.runDir, run), cgroup.remove()]);
  crashPoint('takedown.unmounted');
  for (const result of removed) if (result.status === 'rejected') throw result.reason;
}

/** Kills and removes vessels in any state, also those a killed predecessor was starting, but not their networks. */
export async function removeVessels(
  context: Pick<VesselContext, 'hierarchy' | 'run'>,
  layouts: readonly VesselLayout[],
): Promise<void> {
  await killStarters(layouts.flatMap(({ runtimeDir, socketPath }) => [runtimeDir, socketPath]));
  for (const layout of layouts) {
    const cgroup = openCgroup(context.hierarchy, layout.cgroupPath);
    await killVessel(layout, cgroup);
    await removeVessel(context, layout, cgroup);
  }
}

type DropContext = Pick<VesselContext, 'hierarchy' | 'run' | 'network' | 'strays'>;

/** Removes a vessel that did not become a capsule; where that fails, it is tried again later. */
export async function dropVessel(
  context: DropContext,
  { layout, slot, guest }: Pick<Vessel, 'layout' | 'slot'> & Partial<Pick<Vessel, 'guest'>>,
): Promise<void> {
  guest?.close();
  try {
    await removeVessels(context, [layout]);
    if (slot) await context.network.pool.discard(slot.number);
  } catch {
    context.strays.add(layout.vesselId);
  }
}

async function removeRunDir(runDir: string, run: RunBriefly): Promise<void> {
  // A capsule of an earlier version has its disk mounted there.
  await unmountBelow(runDir, run);
  await rm(runDir, { recursive: true, force: true });
}
