import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { asAppError } from './container-errors.ts';
import type { Machine, MachineSpec, MemorySnapshots } from './machine-driver.ts';
import { type Beginning, createFrom, holdMachine, releaseNetwork } from './microvm-boot.ts';
import { cloneVessel, type WaitingClone } from './microvm-clone.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { disksAgain, ownDisk } from './microvm-disk.ts';
import { holdGuest, syncGuest } from './microvm-guest.ts';
import { beginImage, type MemoryImage, memoryImageIn, publishImage, readImage, syncFile } from './microvm-image.ts';
import { type MicrovmLayout, microvmLayoutOf } from './microvm-layout.ts';
import type { HeldMachine } from './microvm-machine.ts';
import { saveMemory } from './microvm-memory.ts';
import { changeMicrovmState, type MicrovmState, readMicrovmState } from './microvm-state.ts';
import { dropVessel, type MicrovmVessel, removeStrayVessel, takeDevices } from './microvm-vessel.ts';
import { nameWords } from './microvm-words.ts';
import { orUndo } from './or-undo.ts';
import { insertDisks } from './qemu-disks.ts';
import { saveDevices } from './qemu-migration.ts';
import { continueMachine, stopMachine } from './qmp-commands.ts';
import { runProgram } from './run-program.ts';

const copyTimeoutMs = 600_000;

/** Snapshots that hold memory, of the machines this process holds. */
export function microvmSnapshots(context: MicrovmContext): MemorySnapshots {
  return {
    snapshot: (capsuleId, directory) => snapshot(context, capsuleId, directory).catch(asFailure),
    restore: (directory, spec) => createFrom(context, spec, () => cloneSnapshot(context, directory, spec)),
    check: (directory) => readImage(context, memoryImageIn(directory)).then(() => {}, asFailure),
    suspend: (capsuleId) => suspend(context, capsuleId).catch(asFailure),
    wake: (spec) => wake(context, spec).catch(asFailure),
  };
}

function asFailure(error: unknown): never {
  throw asAppError(error, 'snapshot_failed', 'the memory of the machine could not be kept, or used');
}

function heldOf({ live }: MicrovmContext, capsuleId: string): HeldMachine {
  const machine = live.get(capsuleId);
  if (machine === undefined) throw new AppError('snapshot_failed', `capsule ${capsuleId} does not run here`);
  return machine;
}

/** What has changed of a machine that stands still, but its disk. */
async function save({ vessel }: HeldMachine, { ramPath }: MicrovmLayout, image: MemoryImage): Promise<void> {
  await saveMemory({ pid: vessel.qemu.ref.pid, ramPath }, image);
  crashPoint('microvm.memory-saved');
  await saveDevices(vessel.qemu.qmp);
  await takeDevices(vessel, image.devicesPath);
}

/** Nothing in it runs any more, nor will in whoever begins with its memory, before that one has heard its identity. */
async function stand({ vessel, guest }: HeldMachine): Promise<void> {
  await holdGuest(guest);
  await stopMachine(vessel.qemu.qmp);
  crashPoint('microvm.stands');
}

async function goOn({ vessel, guest }: HeldMachine): Promise<void> {
  await continueMachine(vessel.qemu.qmp);
  await guest.identify([]);
}

async function snapshot(context: MicrovmContext, capsuleId: string, directory: string): Promise<void> {
  const machine = heldOf(context, capsuleId);
  const layout = await cloneLayoutOf(context, machine);
  const disk = await ownDisk(layout);
  const image = await beginImage(directory);
  const copy = join(image.directory, basename(disk));
  const keep = async () => {
    // What its kernel holds back is in the memory that is saved; but a disk may be used without its memory.
    await syncGuest(machine.guest);
    const saveAll = async () => {
      await stand(machine);
      await save(machine, layout, image);
      await runProgram(['cp', '--reflink=auto', '--sparse=always', disk, copy], { timeoutMs: copyTimeoutMs });
    };
    await orUndo(saveAll, () => goOn(machine));
    await goOn(machine);
    await syncFile(copy);
    await publishImage(context, image, { directory, ramPath: layout.ramPath, shape: machine.vessel.shape });
  };
  await orUndo(keep, () => rm(image.directory, { recursive: true, force: true }));
}

/** A machine that booted by itself has no file others could begin with. */
async function cloneLayoutOf({ installation }: MicrovmContext, { capsuleId }: Machine): Promise<MicrovmLayout> {
  const layout = microvmLayoutOf(installation, capsuleId);
  await syncFile(layout.ramPath).catch((cause: unknown) => {
    throw new AppError('snapshot_failed', 'the machine booted by itself: its memory cannot be kept', { cause });
  });
  return layout;
}

/** A vessel that stands where an image stopped. On any failure nothing is left of it. */
async function cloneImage(context: MicrovmContext, image: MemoryImage, cpus: number): Promise<WaitingClone> {
  const { ramPath, devicesPath } = image;
  return cloneVessel(context, { shape: await readImage(context, image), cpus, of: image, ramPath, devicesPath });
}

async function cloneSnapshot(context: MicrovmContext, directory: string, spec: MachineSpec): Promise<Beginning> {
  const clone = await cloneImage(context, memoryImageIn(directory), spec.shape.cpus);
  return { ...clone, isFork: true, words: () => nameWords(spec) };
}

/** Beside the disk, so that both go together. */
function suspendedImage({ stateDir }: MicrovmLayout): string {
  return join(stateDir, 'memory');
}

async function suspend(context: MicrovmContext, capsuleId: string): Promise<void> {
  const machine = heldOf(context, capsuleId);
  const layout = await cloneLayoutOf(context, machine);
  const directory = suspendedImage(layout);
  await machine.resume();
  await rm(directory, { recursive: true, force: true });
  const image = await beginImage(directory);
  try {
    await stand(machine);
    await save(machine, layout, image);
    await syncFile(await ownDisk(layout));
    await publishImage(context, image, { directory, ramPath: layout.ramPath, shape: machine.vessel.shape });
    crashPoint('microvm.memory-published');
    await changeForGood(layout, { phase: 'suspended' });
  } catch (error) {
    await changeMicrovmState(layout, { phase: 'running' });
    await goOn(machine).catch(() => {});
    await rm(image.directory, { recursive: true, force: true });
    throw error;
  }
  crashPoint('microvm.suspended');
  await machine.letGo();
}

async function wake(context: MicrovmContext, spec: MachineSpec): Promise<Machine> {
  const layout = microvmLayoutOf(context.installation, spec.capsuleId);
  const state = await readMicrovmState(layout);
  if (state?.phase !== 'suspended') throw new AppError('snapshot_failed', `capsule ${spec.capsuleId} is not suspended`);
  // Whoever suspended it may have been killed before its QEMU was.
  await removeStrayVessel(context, state.vesselId);
  await releaseNetwork(context, layout, false);
  const disks = await disksAgain(context.kit, layout, spec);
  const { vessel, guest } = await cloneImage(context, memoryImageIn(suspendedImage(layout)), spec.shape.cpus);
  crashPoint('microvm.memory-loaded');
  try {
    await insertDisks({ ...vessel.layout, agentPath: context.agentPath, qmp: vessel.qemu.qmp, disks: disks.disks });
    await wakeUp(layout, vessel);
  } catch (error) {
    await changeMicrovmState(layout, { phase: 'suspended', networkSlot: null });
    await dropVessel(context, vessel);
    throw error;
  }
  const machine = holdMachine(context, { layout, vessel, guest: await guest, inheritedKills: state.inheritedKills });
  await machine.guest.identify([]);
  await rm(suspendedImage(layout), { recursive: true, force: true });
  return machine;
}

/** Once it runs, its disk is not the one its memory on disk belongs to: from then on it must never be woken again. */
async function wakeUp(layout: MicrovmLayout, { layout: { vesselId }, qemu, slot }: MicrovmVessel): Promise<void> {
  const networkSlot = slot?.number ?? null;
  await changeForGood(layout, { phase: 'running', vesselId, process: qemu.ref, networkSlot });
  crashPoint('microvm.woken');
  await continueMachine(qemu.qmp);
}

/** Changes what is known of a machine, on disk for good. */
async function changeForGood(layout: MicrovmLayout, changes: Partial<MicrovmState>): Promise<void> {
  await changeMicrovmState(layout, changes);
  await syncFile(layout.stateFile);
  await syncFile(layout.stateDir);
}
