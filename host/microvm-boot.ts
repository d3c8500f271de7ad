import { link, mkdir, rename } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { asAppError, isErrno } from './container-errors.ts';
import { isAlive } from './container-process.ts';
import type { GuestLink } from './guest-link.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineSpec, Remains } from './machine-driver.ts';
import { cloneVessel, type WaitingClone } from './microvm-clone.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { countDisks, disksOf, type MachineDisks } from './microvm-disk.ts';
import { greet, greetLater } from './microvm-greeting.ts';
import { countMemoryKills } from './microvm-guest.ts';
import { type MicrovmLayout, microvmLayoutOf } from './microvm-layout.ts';
import { makeMicrovmMachine } from './microvm-machine.ts';
import { blankKind, dropClone, fittedKind } from './microvm-pool.ts';
import { changeMicrovmState, readMicrovmState, writeMicrovmState } from './microvm-state.ts';
import {
  adoptVessel,
  dropVessel,
  type MicrovmVessel,
  removeStrayVessel,
  removeVessel,
  startVessel,
  vesselShapeOf,
} from './microvm-vessel.ts';
import { checkWords, guestWords, nameWords } from './microvm-words.ts';
import { orUndo } from './or-undo.ts';
import { insertDisks } from './qemu-disks.ts';
import { continueMachine, machineStatus } from './qmp-commands.ts';

/** On a host that has just lost its process, others start at the same time: each try has more time than the one before. */
const adoptTimeoutsMs = [2_000, 4_000, 8_000, 16_000];

/** A vessel in which a machine can begin, and its agent as soon as that runs. */
export interface Beginning extends Pick<WaitingClone, 'vessel' | 'guest'> {
  /** The memory it began with; null when it booted by itself. */
  readonly ramPath: string | null;
  /** It goes on from what ran in another machine. */
  readonly isFork: boolean;
  /** What it has to hear before anything runs in it; null when it knows. */
  readonly words: ((disks: MachineDisks) => readonly string[]) | null;
}

/** A way to a vessel; the disks are being made meanwhile. */
type Begin = (disks: Promise<MachineDisks>) => Promise<Beginning>;

/** A vessel and what it needs to be a machine. */
interface Settlement {
  readonly layout: MicrovmLayout;
  /** Those it does not have yet. */
  readonly disks: MachineDisks;
  readonly beginning: Beginning;
}

/** Makes a machine; see `MachineDriver.create`. Throws `already_exists` when anything of that id is here. */
export function createMachine(context: MicrovmContext, spec: MachineSpec): Promise<Machine> {
  const find = async (layout: MicrovmLayout) =>
    (await takeFitted(context, layout, spec)) ??
    (await prepare(context, { layout, spec }, (disks) => begin(context, spec, disks)));
  return createIn(context, spec, find);
}

/** `createMachine` with another way to begin. */
export function createFrom(context: MicrovmContext, spec: MachineSpec, beginWith: Begin): Promise<Machine> {
  return createIn(context, spec, (layout) => prepare(context, { layout, spec }, beginWith));
}

async function createIn(
  context: MicrovmContext,
  spec: MachineSpec,
  find: (layout: MicrovmLayout) => Promise<Settlement>,
): Promise<Machine> {
  checkWords(spec);
  const layout = await foundMachine(context, spec.capsuleId);
  try {
    return await settle(context, await find(layout));
  } catch (error) {
    await remainsOf(context, spec.capsuleId).destroy();
    throw asAppError(error, 'provision_failed', `capsule ${spec.capsuleId} could not be started`);
  }
}

/** A clone that is such a machine already, but for its name; null when none is ready. */
async function takeFitted(
  context: MicrovmContext,
  layout: MicrovmLayout,
  spec: MachineSpec,
): Promise<Settlement | null> {
  const kind = await fittedKind(spec);
  const clone = kind && (await context.clones?.take(kind));
  if (!clone?.diskDir) return null;
  crashPoint('microvm.fitted-taken');
  try {
    await rename(clone.diskDir, layout.diskDir);
  } catch {
    await dropClone(context, clone);
    return null;
  }
  crashPoint('microvm.fitted-disk-moved');
  const beginning = { ...clone, isFork: false, words: () => nameWords(spec) };
  return { layout, disks: { disks: [], layerCount: 0 }, beginning };
}

async function prepare(
  context: MicrovmContext,
  { layout, spec }: { readonly layout: MicrovmLayout; readonly spec: MachineSpec },
  beginWith: Begin,
): Promise<Settlement> {
  const disks = disksOf(context.kit, layout, spec);
  const [made, begun] = await Promise.allSettled([disks, beginWith(disks)]);
  if (begun.status === 'rejected') throw begun.reason;
  if (made.status === 'rejected') {
    await dropVessel(context, begun.value.vessel);
    throw made.reason;
  }
  return { layout, disks: made.value, beginning: begun.value };
}

/** The place on disk by which a machine is known. Throws `already_exists`. */
async function foundMachine({ installation }: MicrovmContext, capsuleId: string): Promise<MicrovmLayout> {
  const layout = microvmLayoutOf(installation, capsuleId);
  await mkdir(layout.stateDir, { mode: 0o700 }).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST')) throw new AppError('already_exists', `capsule ${capsuleId} exists already`);
    throw asAppError(error, 'provision_failed', 'the machine has no place on disk');
  });
  crashPoint('microvm.founded');
  return layout;
}

/** A clone of its shape's template, or, where there is none, a machine that boots once it is known how many disks it has. */
async function begin(context: MicrovmContext, spec: MachineSpec, disks: Promise<MachineDisks>): Promise<Beginning> {
  const usual = vesselShapeOf(spec, 0);
  const template =
    (await countDisks(spec)) <= usual.diskPlaces ? await context.templates?.get(usual).catch(() => null) : null;
  const wordsFor = ({ layerCount }: MachineDisks) => {
    const resolvers = spec.egress === 'internet' ? context.network.resolvers : null;
    return guestWords({ spec, layerCount, resolvers });
  };
  if (template) {
    const kind = blankKind(spec);
    const clone =
      (await context.clones?.take(kind)) ?? (await cloneVessel(context, { ...kind, ...template, of: 'template' }));
    return { ...clone, isFork: false, words: wordsFor };
  }
  const all = await disks;
  const words = wordsFor(all);
  const beginning = { kind: 'boot', initramfsPath: context.initramfsPath, words, sharesMemory: false } as const;
  const shape = vesselShapeOf(spec, all.disks.length);
  const vessel = await startVessel(context, { shape, cpus: spec.shape.cpus, beginning, ramPath: null });
  return { vessel, guest: greetLater(vessel, context.bootTimeoutMs), ramPath: null, isFork: false, words: null };
}

/** Makes a vessel that is nobody's yet this machine. */
async function settle(context: MicrovmContext, { layout, disks, beginning }: Settlement): Promise<Machine> {
  const { vessel } = beginning;
  await claim(context, layout, beginning);
  const guest = await startGuest(context, disks, beginning).catch((cause: unknown) => explain(vessel, cause));
  const inheritedKills = beginning.isFork ? await countMemoryKills(guest) : 0;
  await changeMicrovmState(layout, { phase: 'running', inheritedKills });
  crashPoint('microvm.runs');
  return holdMachine(context, { layout, vessel, guest, inheritedKills });
}

async function startGuest(
  { agentPath }: MicrovmContext,
  disks: MachineDisks,
  { vessel, words, guest: greeting }: Beginning,
): Promise<GuestLink> {
  const { qmp } = vessel.qemu;
  if (disks.disks.length > 0) await insertDisks({ ...vessel.layout, agentPath, qmp, disks: disks.disks });
  crashPoint('microvm.disks-inserted');
  await continueMachine(qmp);
  const guest = await greeting;
  if (words !== null) await guest.identify(words(disks));
  return guest;
}

/** What it is that a guest's init could not do is on its console, and what QEMU died of among its last words. */
async function explain({ qemu, ended }: MicrovmVessel, cause: unknown): Promise<never> {
  if (await isAlive(qemu.ref)) throw cause;
  throw new AppError('provision_failed', `the machine did not boot: ${await ended}`, { cause });
}

/** From here on the vessel is found, and its network is not given to another, for as long as the machine's state is there. */
async function claim(
  context: MicrovmContext,
  layout: MicrovmLayout,
  { vessel, ramPath }: Pick<Beginning, 'vessel' | 'ramPath'>,
): Promise<void> {
  const note = async () => {
    if (ramPath !== null) await link(ramPath, layout.ramPath);
    await writeMicrovmState(layout, {
      version: 1,
      capsuleId: layout.capsuleId,
      vesselId: vessel.layout.vesselId,
      process: vessel.qemu.ref,
      phase: 'starting',
      shape: vessel.shape,
      networkSlot: vessel.slot?.number ?? null,
      isDiskWhole: false,
      inheritedKills: 0,
    });
  };
  await orUndo(note, () => dropVessel(context, vessel));
  crashPoint('microvm.claimed');
}

interface Holding {
  readonly layout: MicrovmLayout;
  readonly vessel: MicrovmVessel;
  readonly guest: GuestLink;
  readonly inheritedKills: number;
}

/** The machine as the port has it, from now on among those this process holds. */
export function holdMachine(context: MicrovmContext, { layout, vessel, guest, inheritedKills }: Holding): Machine {
  const machine = makeMicrovmMachine({
    ...{ layout, vessel, guest, inheritedKills },
    onDiskWhole: () => changeMicrovmState(layout, { isDiskWhole: true }),
    removeVessel: () => removeVessel(context, vessel.layout.vesselId),
    releaseNetwork: (isClean) => releaseNetwork(context, layout, isClean),
    onStopped: () => context.live.delete(layout.capsuleId),
  });
  context.live.set(layout.capsuleId, machine);
  return machine;
}

/** Takes up a machine of an earlier process; null when it is dead, was never whole, or its agent does not answer. */
export async function adoptMachine(context: MicrovmContext, capsuleId: string): Promise<Machine | null> {
  const layout = microvmLayoutOf(context.installation, capsuleId);
  const state = await readMicrovmState(layout);
  // One that was only being created may not know yet who it is.
  if (state?.phase !== 'running' || state.process === null) return null;
  const vessel = await adoptVessel(context, state, state.process);
  if (vessel === null) return null;
  try {
    // A process that was killed while it saved the machine, or was about to let it go on, left it standing.
    if ((await machineStatus(vessel.qemu.qmp)) !== 'running') await continueMachine(vessel.qemu.qmp);
    await changeMicrovmState(layout, { isDiskWhole: false });
    const guest = await greetAgain(vessel);
    // Its programs may stand by themselves, and its clock be behind.
    await guest.identify([]);
    return holdMachine(context, { layout, vessel, guest, inheritedKills: state.inheritedKills });
  } catch {
    vessel.qemu.qmp.close();
    return null;
  }
}

/**
 * A guest that writes to its port before QEMU has noticed that the last host is gone makes QEMU hold everything back that it writes,
 * also from the next host, until that one hangs up (seen with QEMU 10.0: `throttle on`).
 */
async function greetAgain(vessel: MicrovmVessel): Promise<GuestLink> {
  for (const timeoutMs of adoptTimeoutsMs) {
    const guest = await greet(vessel, timeoutMs).catch(() => null);
    if (guest !== null) return guest;
  }
  throw new AppError('guest_lost', 'the agent of the machine does not answer');
}

/** Another machine may get the slot at once: whoever removes the remains of this one must not find it there. */
export async function releaseNetwork(
  { network }: MicrovmContext,
  layout: MicrovmLayout,
  isClean: boolean,
): Promise<void> {
  const number = (await readMicrovmState(layout))?.networkSlot ?? null;
  if (number === null) return;
  await changeMicrovmState(layout, { networkSlot: null });
  network.pool.release(network.pool.slot(number), isClean);
}

/** What there is of a machine that nobody holds; see `MachineDriver.remains`. */
export function remainsOf(context: MicrovmContext, capsuleId: string): Remains {
  const layout = microvmLayoutOf(context.installation, capsuleId);
  const end = async () => {
    const state = await readMicrovmState(layout);
    if (state !== null) await removeStrayVessel(context, state.vesselId);
    await releaseNetwork(context, layout, false);
    return state;
  };
  return {
    async stop() {
      if ((await end())?.isDiskWhole) return { upperDir: layout.diskDir };
      throw new AppError('snapshot_failed', 'the machine ended before everything it wrote had reached its disk');
    },
    async destroy() {
      await end();
      await removeTree(layout.stateDir);
    },
  };
}
