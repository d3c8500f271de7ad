import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { type ContainerContext, holdMachine, noteVessel, startCapsule } from './container-create.ts';
import { type CapsuleLayout, layoutOf, type VesselLayout, vesselLayoutOf } from './container-layout.ts';
import { readState, writeState } from './container-state.ts';
import { dropVessel, removeVessels, type Vessel } from './container-vessel.ts';
import { exists } from './exists.ts';
import { checkImage, type ImageNeeds, makeMemoryPlace, memoryOnDisk, publishImage } from './gvisor-image.ts';
import { type Runsc, runscFor } from './gvisor-launch.ts';
import { beginGvisor, type GvisorVessels } from './gvisor-vessel.ts';
import { refuseOdd } from './layer-archive.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineSpec, MemorySnapshots } from './machine-driver.ts';
import { agentMountPath } from './oci-bundle.ts';
import { orUndo } from './or-undo.ts';

type GvisorContext = ContainerContext & GvisorVessels;

const copyTimeoutMs = 600_000;

/** Snapshots that hold memory, of the capsules this process holds. */
export function gvisorSnapshots(context: GvisorContext): MemorySnapshots {
  return {
    snapshot: (capsuleId, directory) => snapshot(context, capsuleId, directory).catch(asFailure),
    restore: (directory, spec) => restore(context, directory, spec).catch(asFailure),
    check: (directory) => checkForeign(context, memoryOnDisk(directory)).catch(asFailure),
    suspend: (capsuleId) => suspend(context, capsuleId).catch(asFailure),
    wake: (spec) => wake(context, spec).catch(asFailure),
  };
}

function asFailure(error: unknown): never {
  if (error instanceof AppError && error.code !== 'provision_failed') throw error;
  const message = `the memory of the capsule could not be kept, or used: ${messageOf(error)}`;
  throw new AppError('snapshot_failed', message, { cause: error });
}

/** Of another host, whose capsules may have got the better of it. */
async function checkForeign(context: GvisorContext, memoryDir: string): Promise<void> {
  await refuseOdd(memoryDir);
  await checkImage(needsOf(context), memoryDir);
}

/** A capsule this process holds. */
interface Held {
  readonly machine: Machine;
  readonly layout: CapsuleLayout;
  readonly vessel: VesselLayout;
  readonly runsc: Runsc;
}

async function heldOf(context: GvisorContext, capsuleId: string): Promise<Held> {
  const machine = context.live.get(capsuleId);
  const layout = layoutOf(context.installation, capsuleId);
  const state = await readState(layout);
  if (machine === undefined || state === null)
    throw new AppError('snapshot_failed', `capsule ${capsuleId} does not run here`);
  const vessel = vesselLayoutOf(context.installation, state.vesselId);
  return { machine, layout, vessel, runsc: runscFor(context, vessel, state.networkSlot !== null) };
}

function needsOf({ runtime, agentPath }: GvisorContext): ImageNeeds {
  return { label: runtime.label, agentPath };
}

/** Its programs stand; what keeps their memory does not. */
async function standing<Result>({ runsc, vessel }: Held, work: () => Promise<Result>): Promise<Result> {
  await runsc(['pause', vessel.vesselId]);
  crashPoint('gvisor.stands');
  const resume = () => runsc(['resume', vessel.vesselId]);
  const result = await orUndo(work, resume);
  await resume();
  return result;
}

async function saveMemory({ runsc, vessel }: Held, memoryDir: string): Promise<void> {
  const options = [
    '--compression=none',
    '--exclude-committed-zero-pages',
    '--leave-running',
    '--image-path',
    memoryDir,
  ];
  await runsc(['checkpoint', ...options, vessel.vesselId]);
  crashPoint('gvisor.memory-saved');
}

async function snapshot(context: GvisorContext, capsuleId: string, directory: string): Promise<void> {
  const held = await heldOf(context, capsuleId);
  const draftDir = `${directory}.new`;
  const keep = async () => {
    const memoryDir = await standing(held, async () => {
      await copyDisk(context, held.layout.upperDir, draftDir);
      const memoryDir = await makeMemoryPlace(draftDir, context.run);
      await saveMemory(held, memoryDir);
      return memoryDir;
    });
    await publishImage(needsOf(context), { draftDir, memoryDir, directory }, context.run);
  };
  await orUndo(keep, () => removeTree(draftDir, context.run));
}

/** Of a disk nothing writes to; owners, attributes and times are what memory knows them to be. */
async function copyDisk({ run }: GvisorContext, from: string, to: string): Promise<void> {
  await removeTree(to, run);
  await run(['cp', '--archive', '--reflink=auto', '--', from, to], { timeoutMs: copyTimeoutMs });
}

async function restore(context: GvisorContext, directory: string, spec: MachineSpec): Promise<Machine> {
  const imageDir = memoryOnDisk(directory);
  await checkImage(needsOf(context), imageDir);
  return startCapsule(context, spec, (_, layout) => goOn(context, { spec, layout, imageDir }));
}

interface Going {
  readonly spec: MachineSpec;
  readonly layout: CapsuleLayout;
  readonly imageDir: string;
}

/** A vessel that goes on where memory stopped, under its own name. */
async function goOn(context: GvisorContext, { spec, layout, imageDir }: Going): Promise<Vessel> {
  const vessel = await beginGvisor(context, imageDir)(spec, layout);
  crashPoint('gvisor.memory-loaded');
  const runsc = runscFor(context, vessel.layout, vessel.slot !== null);
  const name = [agentMountPath, 'name', spec.hostname];
  const rename = () => runsc(['exec', '--user=0:0', '--cap=CAP_SYS_ADMIN', vessel.layout.vesselId, ...name]);
  await orUndo(rename, () => dropVessel(context, vessel));
  return vessel;
}

/** Beside the disk, so that both go together. A capsule is suspended if and only if it is there. */
function suspendedMemory({ stateDir }: CapsuleLayout): string {
  return join(stateDir, 'memory');
}

/** Whether a capsule sleeps, whatever of it may still run. */
export function isSuspended(layout: CapsuleLayout): Promise<boolean> {
  return exists(suspendedMemory(layout));
}

async function suspend(context: GvisorContext, capsuleId: string): Promise<void> {
  const held = await heldOf(context, capsuleId);
  const directory = suspendedMemory(held.layout);
  const draftDir = `${directory}.new`;
  await removeTree(draftDir, context.run);
  await mkdir(draftDir, { mode: 0o700 });
  await held.runsc(['pause', held.vessel.vesselId]);
  crashPoint('gvisor.stands');
  try {
    await saveMemory(held, draftDir);
    await publishImage(needsOf(context), { draftDir, memoryDir: draftDir, directory }, context.run);
  } catch (error) {
    await held.runsc(['resume', held.vessel.vesselId]).catch(() => {});
    await removeTree(draftDir, context.run);
    throw error;
  }
  crashPoint('gvisor.suspended');
  await held.machine.stop();
  // Whoever wakes it must not meet what is still under way of its end.
  await Promise.all(context.leaving);
}

async function wake(context: GvisorContext, spec: MachineSpec): Promise<Machine> {
  const layout = layoutOf(context.installation, spec.capsuleId);
  const memory = suspendedMemory(layout);
  if (!(await isSuspended(layout))) throw new AppError('snapshot_failed', `capsule ${spec.capsuleId} is not suspended`);
  await checkImage(needsOf(context), memory);
  await removeSleeper(context, layout);
  await keepDisk(context, layout);
  const vessel = await goOn(context, { spec, layout, imageDir: memory });
  const wakeUp = async () => {
    await noteVessel(layout, vessel, vessel.slot?.number ?? null);
    crashPoint('gvisor.noted');
    // From here on it is awake: its disk has moved on from the one its memory belongs to.
    await rename(memory, `${memory}.new`);
  };
  await orUndo(wakeUp, () => dropVessel(context, vessel));
  crashPoint('gvisor.woken');
  await removeTree(`${memory}.new`, context.run);
  return holdMachine(context, layout, vessel);
}

/** Whoever suspended it, or began to wake it, may have been killed before its gVisor was. */
async function removeSleeper(context: GvisorContext, layout: CapsuleLayout): Promise<void> {
  const state = await readState(layout);
  if (state === null) return;
  await removeVessels(context, [vesselLayoutOf(context.installation, state.vesselId)]);
  await writeState(layout, { ...state, networkSlot: null });
  if (state.networkSlot !== null) await context.network.pool.discard(state.networkSlot);
}

/** Keeps the disk as the memory knows it until the capsule is awake: one that was interrupted there may have written. */
async function keepDisk(context: GvisorContext, layout: CapsuleLayout): Promise<void> {
  const kept = join(suspendedMemory(layout), 'upper');
  if (await exists(kept)) {
    await copyDisk(context, kept, layout.upperDir);
  } else {
    await copyDisk(context, layout.upperDir, `${kept}.new`);
    await rename(`${kept}.new`, kept);
  }
  await removeTree(layout.workDir, context.run);
}
