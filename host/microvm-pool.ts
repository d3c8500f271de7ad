import { mkdir, rm } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { isAlive } from './container-process.ts';
import { cloneVessel, orDrop, type WaitingClone } from './microvm-clone.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { layerDisk, makeFirstDisk } from './microvm-disk.ts';
import { runAgentProgram } from './microvm-guest.ts';
import { dropVessel, type VesselShape } from './microvm-vessel.ts';
import { type DiskFile, insertDisks } from './qemu-disks.ts';
import { continueMachine, stopMachine } from './qmp-commands.ts';
import { runProgram } from './run-program.ts';
import { createWarmPool, type WarmPool } from './warm-pool.ts';

/** What a clone is kept ready for. */
interface CloneKind {
  readonly shape: VesselShape;
  /** Processor time, in processors. */
  readonly cpus: number;
}

export type ClonePool = WarmPool<CloneKind, WaitingClone>;

/** What a clone that stands takes of the host, all in all. */
const cloneBytes = 64 * 2 ** 20;
/** One part in so many of the host's memory may be in clones that are only kept ready. */
const memoryShare = 16;
const mostClones = 32;
const rehearsals = 2;
const rehearsalTimeoutMs = 60_000;
const rehearsalDiskBytes = 64 * 2 ** 20;

/** Most clones to keep ready on this host. */
export function mostWarmClones(): number {
  return Math.min(mostClones, Math.floor(totalmem() / memoryShare / cloneBytes));
}

/**
 * Clones that have run already what every machine runs at its start, and stand: under emulation, what was translated once need not be
 * again. Kept only of shapes that were lately asked for.
 */
export async function openClonePool(context: MicrovmContext, max: number): Promise<ClonePool> {
  const rehearsal = max > 0 ? await makeRehearsalDisks(context) : null;
  return createWarmPool<CloneKind, WaitingClone>({
    max,
    least: 0,
    kinds: [],
    nameOf: ({ shape, cpus }) => JSON.stringify([shape, cpus]),
    start: (kind) => startWarm(context, kind, rehearsal),
    remove: ({ vessel }) => dropVessel(context, vessel),
    isAlive: ({ vessel }) => isAlive(vessel.qemu.ref),
    ended: ({ vessel }) => vessel.ended,
  });
}

async function startWarm(
  context: MicrovmContext,
  { shape, cpus }: CloneKind,
  disks: RehearsalDisks | null,
): Promise<WaitingClone> {
  const template = await context.templates?.get(shape);
  if (!template || !disks) throw new AppError('provision_failed', 'there is no template');
  const clone = await cloneVessel(context, { shape, cpus, ...template, of: 'template' });
  await orDrop(context, clone.vessel, () => rehearse(context, clone, disks));
  return clone;
}

/** What a clone rehearses with: a disk of its own, and a layer in which there is nothing. */
interface RehearsalDisks {
  readonly own: DiskFile;
  readonly layer: DiskFile;
}

async function makeRehearsalDisks({ kit, installation }: MicrovmContext): Promise<RehearsalDisks> {
  const directory = join(installation.dataDir, 'rehearsal');
  const empty = join(directory, 'empty');
  await rm(directory, { recursive: true, force: true });
  await mkdir(empty, { recursive: true, mode: 0o700 });
  const own = await makeFirstDisk(kit, join(directory, 'own.ext4'), rehearsalDiskBytes);
  return { own, layer: { path: await layerDisk(kit, empty), format: 'raw' } };
}

async function rehearse(context: MicrovmContext, clone: WaitingClone, { own, layer }: RehearsalDisks): Promise<void> {
  const { qemu, layout } = clone.vessel;
  const copy = `${own.path}.${layout.vesselId}`;
  const disks = [
    { writable: true, chain: [{ ...own, path: copy }] },
    { writable: false, chain: [layer] },
  ];
  try {
    await runProgram(['cp', '--sparse=always', own.path, copy]);
    await insertDisks({ ...layout, agentPath: context.agentPath, qmp: qemu.qmp, disks, isRehearsal: true });
  } finally {
    // QEMU has it open for as long as it needs it.
    await rm(copy, { force: true });
  }
  await continueMachine(qemu.qmp);
  const guest = await clone.guest;
  for (let count = 0; count < rehearsals; count++)
    await runAgentProgram(guest, `rehearse layers=${disks.length - 1}`, rehearsalTimeoutMs);
  await stopMachine(qemu.qmp);
}
