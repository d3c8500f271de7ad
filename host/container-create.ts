import { mkdir } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleNetwork } from './capsule-network.ts';
import { openCgroup } from './cgroup-capsule.ts';
import { asAppError, isErrno } from './container-errors.ts';
import { type CapsuleLayout, layoutOf, type VesselLayout, vesselLayoutOf } from './container-layout.ts';
import { makeContainerMachine } from './container-machine.ts';
import type { RemainsContext } from './container-remains.ts';
import { readState, writeState } from './container-state.ts';
import { dropVessel, type Vessel } from './container-vessel.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineSpec } from './machine-driver.ts';
import type { NetworkSlot } from './network-slot.ts';

/** Makes the vessel that is the capsule of `spec`: it runs, on its disk. On any failure nothing is left of it. */
export type BeginCapsule = (spec: MachineSpec, layout: CapsuleLayout) => Promise<Vessel>;

/** Everything a container driver has once, for all its capsules. */
export interface ContainerContext extends RemainsContext {
  readonly network: CapsuleNetwork;
  readonly begin: BeginCapsule;
  /** Connects to a vessel of an earlier process; null when its init is dead, throws when its agent does not answer. */
  readonly meet: (layout: VesselLayout, slot: NetworkSlot | null) => Promise<Vessel | null>;
  /** Whether a capsule's memory is on disk, so that it must not go on as it is. */
  readonly isAsleep: (layout: CapsuleLayout) => Promise<boolean>;
  /** Capsules this process holds. */
  readonly live: Map<string, Machine>;
  /** Ends of capsules that are under way. */
  readonly leaving: Set<Promise<unknown>>;
}

/**
 * Creates and starts a capsule; see `MachineDriver.create`. `begin` is for one that does not begin anew. Throws `already_exists` when
 * anything of that id is here.
 */
export async function startCapsule(
  context: ContainerContext,
  spec: MachineSpec,
  begin: BeginCapsule = context.begin,
): Promise<Machine> {
  const layout = layoutOf(context.installation, spec.capsuleId);
  await mkdir(layout.stateDir, { mode: 0o700 }).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST')) throw new AppError('already_exists', `capsule ${spec.capsuleId} exists already`);
    throw asAppError(error, 'provision_failed', 'the capsule has no place on disk');
  });
  crashPoint('capsule.placed');
  let vessel: Vessel | null = null;
  try {
    vessel = await begin(spec, layout);
    await noteVessel(layout, vessel, vessel.slot?.number ?? null);
    return holdMachine(context, layout, vessel);
  } catch (error) {
    if (vessel) await dropVessel(context, vessel);
    await removeTree(layout.stateDir, context.run);
    throw asAppError(error, 'provision_failed', `capsule ${spec.capsuleId} could not be started`);
  }
}

/** Writes down which vessel is the capsule, and the number of the network slot that is the capsule's, null when none is. */
export function noteVessel(layout: CapsuleLayout, vessel: Vessel, networkSlot: number | null): Promise<void> {
  const { capsuleId } = layout;
  return writeState(layout, { version: 2, capsuleId, vesselId: vessel.layout.vesselId, networkSlot });
}

/** Holds the capsule that a vessel has become, among those that live, until nothing is left of it but its disk. */
export function holdMachine(context: ContainerContext, layout: CapsuleLayout, vessel: Vessel): Machine {
  const { capsuleId } = layout;
  let heldSlot = vessel.slot;
  const machine = makeContainerMachine({
    layout,
    vessel,
    run: context.run,
    async releaseNetwork(isClean) {
      if (heldSlot === null) return;
      // Another capsule may get the slot at once: whoever removes the remains of this one must not find it there.
      await noteVessel(layout, vessel, null);
      crashPoint('network.unclaimed');
      context.network.pool.release(heldSlot, isClean);
      heldSlot = null;
    },
    onLeaving(work) {
      const settled = work.catch(() => {});
      context.leaving.add(settled);
      void settled.then(() => context.leaving.delete(settled));
    },
    onCleared: () => context.live.delete(capsuleId),
  });
  context.live.set(capsuleId, machine);
  return machine;
}

/**
 * Takes up a capsule of an earlier process; null when its init is dead, its agent does not answer, or it is suspended. One that was
 * paused is resumed, since a frozen agent cannot answer.
 */
export async function adoptCapsule(context: ContainerContext, capsuleId: string): Promise<Machine | null> {
  const layout = layoutOf(context.installation, capsuleId);
  const state = await readState(layout);
  if (state === null || (await context.isAsleep(layout))) return null;
  const vesselLayout = vesselLayoutOf(context.installation, state.vesselId);
  const cgroup = openCgroup(context.hierarchy, vesselLayout.cgroupPath);
  if ((await cgroup.processes()).length === 0) return null;
  await cgroup.thaw();
  const slot = state.networkSlot === null ? null : context.network.pool.slot(state.networkSlot);
  const vessel = await context.meet(vesselLayout, slot).catch(() => null);
  return vessel && holdMachine(context, layout, vessel);
}
