import { mkdir } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { openCgroup } from './cgroup-capsule.ts';
import { activateVessel } from './container-activate.ts';
import { asAppError, isErrno } from './container-errors.ts';
import { type CapsuleLayout, layoutOf, vesselLayoutOf } from './container-layout.ts';
import { makeContainerMachine } from './container-machine.ts';
import { readState, writeState } from './container-state.ts';
import { meetVessel, removeVessels, type Vessel, type VesselContext } from './container-vessel.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineSpec } from './machine-driver.ts';

/** Everything a container driver has once, for all its capsules. */
export interface ContainerContext extends VesselContext {
  /** Lowest layer of every disk. */
  readonly skeletonDir: string;
  /** Gives a blank vessel, one that is kept ready or a new one. */
  readonly takeVessel: (egress: MachineSpec['egress']) => Promise<Vessel>;
  /** Capsules this process holds. */
  readonly live: Map<string, Machine>;
  /** Ends of capsules that are under way. */
  readonly leaving: Set<Promise<unknown>>;
}

/** Creates and starts a capsule; see `MachineDriver.create`. Throws `already_exists` when anything of that id is here. */
export async function startCapsule(context: ContainerContext, spec: MachineSpec): Promise<Machine> {
  const layout = layoutOf(context.installation, spec.capsuleId);
  await mkdir(layout.stateDir, { mode: 0o700 }).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST')) throw new AppError('already_exists', `capsule ${spec.capsuleId} exists already`);
    throw asAppError(error, 'provision_failed', 'the capsule has no place on disk');
  });
  crashPoint('capsule.placed');
  let vessel: Vessel | null = null;
  try {
    vessel = await context.takeVessel(spec.egress);
    crashPoint('capsule.connected');
    await activateVessel(context, { vessel, layout, spec, skeletonDir: context.skeletonDir });
    await noteVessel(layout, vessel, vessel.slot?.number ?? null);
    return holdMachine(context, layout, vessel);
  } catch (error) {
    if (vessel) await removeFailed(context, vessel);
    await removeTree(layout.stateDir, context.run);
    throw asAppError(error, 'provision_failed', `capsule ${spec.capsuleId} could not be started`);
  }
}

async function removeFailed(context: ContainerContext, { layout, guest, slot }: Vessel): Promise<void> {
  guest.close();
  await removeVessels(context, [layout]);
  if (slot) await context.network.pool.discard(slot.number);
}

function noteVessel({ capsuleId, ...layout }: CapsuleLayout, vessel: Vessel, networkSlot: number | null) {
  const state = { version: 2, capsuleId, vesselId: vessel.layout.vesselId, networkSlot } as const;
  return writeState({ capsuleId, ...layout }, state);
}

function holdMachine(context: ContainerContext, layout: CapsuleLayout, vessel: Vessel): Machine {
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
 * Takes up a capsule of an earlier process; null when its init is dead or its agent does not answer. One that was paused is resumed,
 * since a frozen agent cannot answer.
 */
export async function adoptCapsule(context: ContainerContext, capsuleId: string): Promise<Machine | null> {
  const held = context.live.get(capsuleId);
  if (held) return held;
  const layout = layoutOf(context.installation, capsuleId);
  const state = await readState(layout);
  if (state === null) return null;
  const vesselLayout = vesselLayoutOf(context.installation, state.vesselId);
  const cgroup = openCgroup(context.hierarchy, vesselLayout.cgroupPath);
  if ((await cgroup.processes()).length === 0) return null;
  await cgroup.thaw();
  const slot = state.networkSlot === null ? null : context.network.pool.slot(state.networkSlot);
  const vessel = await meetVessel(context, vesselLayout, slot).catch(() => null);
  return vessel && holdMachine(context, layout, vessel);
}
