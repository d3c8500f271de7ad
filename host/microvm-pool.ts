import { rm, stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { AppError } from '@caisson/contracts/app-error';
import { isAlive } from './container-process.ts';
import { makeRehearsalDisks, type RehearsalDisks, rehearse } from './microvm-blank.ts';
import { cloneVessel, type WaitingClone } from './microvm-clone.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { fit, type MachineKind } from './microvm-fitted.ts';
import { dropVessel, type VesselShape, vesselShapeOf } from './microvm-vessel.ts';
import { orUndo } from './or-undo.ts';
import { createWarmPool, type WarmPool } from './warm-pool.ts';

/** What a clone is kept ready for: every machine of a shape, of which it knows nothing, or those of one kind, all but whose name it has. */
interface CloneKind {
  /** Kinds of the same name are the same. */
  readonly name: string;
  readonly shape: VesselShape;
  /** Processor time, in processors. */
  readonly cpus: number;
  /** Null for a blank one. */
  readonly machine: MachineKind | null;
}

export type ClonePool = WarmPool<CloneKind, WaitingClone>;

/** What a clone that stands takes of the host, all in all. */
const cloneBytes = 64 * 2 ** 20;
/** One part in so many of the host's memory may be in clones that are only kept ready. */
const memoryShare = 16;
const mostClones = 32;

/** Most clones to keep ready on this host. */
export function mostWarmClones(): number {
  return Math.min(mostClones, Math.floor(totalmem() / memoryShare / cloneBytes));
}

/** For any machine of this shape and processor time. */
export function blankKind({ shape, egress }: Pick<MachineKind, 'shape' | 'egress'>): CloneKind {
  const vessel = vesselShapeOf({ shape, egress }, 0);
  return { name: JSON.stringify([vessel, shape.cpus]), shape: vessel, cpus: shape.cpus, machine: null };
}

/**
 * For machines like this one; null when it has more disks than clones have places for, or what it is made of is not here. A directory
 * that was removed, and another one made in its place, are of two kinds.
 */
export async function fittedKind({ layers, shape, egress, readOnlyBinds }: MachineKind): Promise<CloneKind | null> {
  const machine = { layers, shape, egress, readOnlyBinds };
  const blank = blankKind(machine);
  const directories = [...layers, ...readOnlyBinds.map(({ from }) => from)];
  if (directories.length >= blank.shape.diskPlaces) return null;
  const found = await Promise.all(directories.map((path) => stat(path, { bigint: true }).catch(() => null)));
  if (found.includes(null)) return null;
  const which = found.map((each) => [each?.dev, each?.ino, each?.birthtimeNs].map(String));
  return { ...blank, name: JSON.stringify([blank.name, machine, which]), machine };
}

/**
 * Clones that have run already what every machine runs at its start, and stand: under emulation, what was translated once need not be
 * again. Blank ones are kept of shapes that were lately asked for, fitted ones of kinds that are asked for again and again: the jobs of
 * most builds bring a source nobody will ask for once they have begun.
 */
export async function openClonePool(context: MicrovmContext, max: number): Promise<ClonePool> {
  const rehearsal = max > 0 ? await makeRehearsalDisks(context) : null;
  return createWarmPool<CloneKind, WaitingClone>({
    max,
    least: 0,
    kinds: [],
    nameOf: ({ name }) => name,
    start: (kind) => startWarm(context, kind, rehearsal),
    remove: (clone) => dropClone(context, clone),
    isAlive: ({ vessel }) => isAlive(vessel.qemu.ref),
    ended: ({ vessel }) => vessel.ended,
    isSpecial: ({ machine }) => machine !== null,
    isPossible: async ({ machine, name }) => machine === null || (await fittedKind(machine))?.name === name,
  });
}

async function startWarm(
  context: MicrovmContext,
  { shape, cpus, machine }: CloneKind,
  disks: RehearsalDisks | null,
): Promise<WaitingClone> {
  const template = await context.templates?.get(shape);
  if (!template || !disks) throw new AppError('provision_failed', 'there is no template');
  const clone = await cloneVessel(context, { shape, cpus, ...template, of: 'template' });
  const warm = async () => {
    if (machine !== null) return fit(context, clone, machine);
    await rehearse(context, clone, disks);
    return clone;
  };
  return orUndo(warm, () => dropVessel(context, clone.vessel));
}

/** Removes a clone that is nobody's machine, with its disk. */
export async function dropClone(context: MicrovmContext, clone: WaitingClone): Promise<void> {
  await dropVessel(context, clone.vessel);
  if (clone.diskDir !== null) await rm(clone.diskDir, { recursive: true, force: true });
}
