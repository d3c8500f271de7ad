import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { WaitingClone } from './microvm-clone.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { layerDisk, makeFirstDisk } from './microvm-disk.ts';
import { runAgentProgram } from './microvm-guest.ts';
import { type DiskFile, insertDisks } from './qemu-disks.ts';
import { continueMachine, stopMachine } from './qmp-commands.ts';
import { runProgram } from './run-program.ts';

const rehearsals = 2;
const rehearsalTimeoutMs = 60_000;
const rehearsalDiskBytes = 64 * 2 ** 20;

/** What a clone rehearses with: a disk of its own, and a layer in which there is nothing. */
export interface RehearsalDisks {
  readonly own: DiskFile;
  readonly layer: DiskFile;
}

export async function makeRehearsalDisks({
  kit,
  installation,
}: Pick<MicrovmContext, 'kit' | 'installation'>): Promise<RehearsalDisks> {
  const directory = join(installation.dataDir, 'rehearsal');
  const empty = join(directory, 'empty');
  await rm(directory, { recursive: true, force: true });
  await mkdir(empty, { recursive: true, mode: 0o700 });
  const own = await makeFirstDisk(kit, join(directory, 'own.ext4'), rehearsalDiskBytes);
  return { own, layer: { path: await layerDisk(kit, empty), format: 'raw' } };
}

/** Has a clone of a template do what every machine does at its start, with disks that are there for this alone, and stand again. */
export async function rehearse(
  { agentPath }: Pick<MicrovmContext, 'agentPath'>,
  clone: WaitingClone,
  { own, layer }: RehearsalDisks,
): Promise<void> {
  const { qemu, layout } = clone.vessel;
  const copy = `${own.path}.${layout.vesselId}`;
  const disks = [
    { writable: true, chain: [{ ...own, path: copy }] },
    { writable: false, chain: [layer] },
  ];
  try {
    await runProgram(['cp', '--sparse=always', own.path, copy]);
    await insertDisks({ ...layout, agentPath, qmp: qemu.qmp, disks, isRehearsal: true });
  } finally {
    // QEMU has it open for as long as it needs it.
    await rm(copy, { force: true });
  }
  await continueMachine(qemu.qmp);
  const guest = await clone.guest;
  for (let count = 0; count < rehearsals; count++)
    await runAgentProgram(guest, ['rehearse', `layers=${disks.length - 1}`], rehearsalTimeoutMs);
  await stopMachine(qemu.qmp);
}
