import { chown, mkdir } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { type CapsuleCgroup, openCgroup } from './cgroup-capsule.ts';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { diskMount, makeDiskDirs } from './container-disk.ts';
import { asAppError, isErrno } from './container-errors.ts';
import { type CapsuleLayout, type Installation, layoutOf } from './container-layout.ts';
import { makeContainerMachine, takeDown } from './container-machine.ts';
import type { ContainerNetwork } from './container-network.ts';
import { findInit, isAlive, killStarters, type ProcessRef, runsProgram } from './container-process.ts';
import { readState, writeState } from './container-state.ts';
import { connectGuest } from './guest-channel.ts';
import type { GuestLink } from './guest-link.ts';
import { idMap } from './id-map.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineSpec } from './machine-driver.ts';
import type { NetworkSlot } from './network-slot.ts';
import { writeBundle } from './oci-bundle.ts';
import { type OciRuntime, startContainer } from './oci-runtime.ts';

/** Everything a container driver has once, for all its capsules. */
export interface ContainerContext {
  readonly installation: Installation;
  readonly hierarchy: CgroupHierarchy;
  readonly network: ContainerNetwork;
  readonly runtime: OciRuntime;
  /** Lowest layer of every disk. */
  readonly skeletonDir: string;
  readonly agentPath: string;
  readonly maxOpenFiles: number;
  readonly limitsSwap: boolean;
  /** Capsules this process holds. */
  readonly live: Map<string, Machine>;
}

const startTimeoutMs = 30_000;
const greetingTimeoutMs = 10_000;
/** One part in so many of a capsule's memory may be in the buffers of its sockets, where these are counted apart. */
const socketBufferShare = 8;

/** Creates and starts a capsule; see `MachineDriver.create`. Throws `already_exists` when anything of that id is here. */
export async function startCapsule(context: ContainerContext, spec: MachineSpec): Promise<Machine> {
  const layout = layoutOf(context.installation, spec.capsuleId);
  await mkdir(layout.stateDir, { mode: 0o700 }).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST')) throw new AppError('already_exists', `capsule ${spec.capsuleId} exists already`);
    throw asAppError(error, 'provision_failed', 'the capsule has no place on disk');
  });
  crashPoint('capsule.placed');
  const cgroup = openCgroup(context.hierarchy, layout.cgroupPath);
  let slot: NetworkSlot | null = null;
  try {
    if (spec.egress === 'internet') slot = await context.network.pool.acquire();
    crashPoint('capsule.connected');
    await prepare(context, { layout, spec, slot });
    crashPoint('capsule.prepared');
    const { runtime, agentPath, skeletonDir } = context;
    const disk = diskMount(layout, [...spec.layers, skeletonDir]);
    await startContainer({ layout, runtime, agentPath, disk, timeoutMs: startTimeoutMs });
    crashPoint('capsule.started');
    await cgroup.limitSocketBuffers(Math.floor(spec.shape.memoryBytes / socketBufferShare));
    return await meetAgent(context, { layout, cgroup, slot, isNew: true });
  } catch (error) {
    await removeFailed(context, { layout, cgroup, slot });
    throw asAppError(error, 'provision_failed', `capsule ${spec.capsuleId} could not be started`);
  }
}

interface CapsuleParts {
  readonly layout: CapsuleLayout;
  readonly cgroup: CapsuleCgroup;
  readonly slot: NetworkSlot | null;
}

async function prepare(
  context: ContainerContext,
  { layout, spec, slot }: { layout: CapsuleLayout; spec: MachineSpec; slot: NetworkSlot | null },
): Promise<void> {
  await writeState(layout, { version: 1, capsuleId: layout.capsuleId, networkSlot: slot?.number ?? null });
  // The capsule's root, and nobody else who is not root, has to pass through to its mount point.
  await mkdir(layout.runDir, { mode: 0o710 });
  await chown(layout.runDir, 0, idMap.baseId);
  await Promise.all([
    makeDiskDirs(layout),
    mkdir(layout.rootDir, { mode: 0o755 }),
    writeBundle({
      layout,
      spec,
      agentPath: context.agentPath,
      resolvConfPath: context.network.resolvConfPath,
      networkNamespace: slot?.namespace ?? null,
      cgroupMode: context.hierarchy.mode,
      limitsSwap: context.limitsSwap,
      maxOpenFiles: context.maxOpenFiles,
    }),
  ]);
}

async function removeFailed(context: ContainerContext, { layout, cgroup, slot }: CapsuleParts): Promise<void> {
  await killStarters(layout);
  await takeDown(layout, cgroup, async () => {
    if (slot) await context.network.pool.discard(slot.number);
  });
  await removeTree(layout.stateDir);
}

async function meetAgent(
  context: ContainerContext,
  { layout, cgroup, slot, isNew }: CapsuleParts & { readonly isNew: boolean },
): Promise<Machine> {
  const init = await findInit(layout, await cgroup.processes());
  if (init === null) throw new AppError('provision_failed', `the agent of capsule ${layout.capsuleId} ended at once`);
  const guest = await connect(layout, init);
  crashPoint('agent.greeted');
  // One that was taken up may run the agent of an earlier version.
  if (isNew && !(await runsProgram(init, context.agentPath))) {
    guest.close();
    throw new AppError(
      'provision_failed',
      'the disk puts another program in the place of the agent: /.caisson leads away',
    );
  }
  const { capsuleId } = layout;
  let heldSlot = slot;
  const machine = makeContainerMachine({
    layout,
    cgroup,
    guest,
    init,
    async releaseNetwork() {
      if (heldSlot === null) return;
      // Another capsule may get the slot at once: whoever removes the remains of this one must not find it there.
      await writeState(layout, { version: 1, capsuleId, networkSlot: null });
      crashPoint('network.unclaimed');
      context.network.pool.release(heldSlot);
      heldSlot = null;
    },
    onStopped: () => context.live.delete(layout.capsuleId),
  });
  context.live.set(layout.capsuleId, machine);
  return machine;
}

async function connect(layout: CapsuleLayout, init: ProcessRef): Promise<GuestLink> {
  try {
    return await connectGuest(layout.socketPath, { greetingTimeoutMs });
  } catch (error) {
    const fate = (await isAlive(init)) ? 'does not answer' : 'ended at once';
    throw new AppError('provision_failed', `the agent of capsule ${layout.capsuleId} ${fate}`, { cause: error });
  }
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
  const cgroup = openCgroup(context.hierarchy, layout.cgroupPath);
  if (state === null || (await findInit(layout, await cgroup.processes())) === null) return null;
  await cgroup.thaw();
  const slot = state.networkSlot === null ? null : context.network.pool.slot(state.networkSlot);
  return meetAgent(context, { layout, cgroup, slot, isNew: false }).catch(() => null);
}
