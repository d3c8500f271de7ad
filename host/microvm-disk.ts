import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { asAppError } from './container-errors.ts';
import { idMap } from './id-map.ts';
import { layerDiskPath } from './layer-overlay.ts';
import type { MachineSpec } from './machine-driver.ts';
import type { MicrovmLayout } from './microvm-layout.ts';
import type { DiskChain, DiskFile } from './qemu-disks.ts';
import type { QemuKit } from './qemu-kit.ts';
import { kitArgv } from './qemu-kit-program.ts';
import { runProgram } from './run-program.ts';

const makeTimeoutMs = 600_000;
const worthSayingMs = 1_000;

/** A machine's disks in the order of their places: the one it writes to, its read-only layers, top first, and what it is shown. */
export interface MachineDisks {
  readonly disks: readonly DiskChain[];
  readonly layerCount: number;
}

/** What decides of a machine's disks. */
export type DiskSpec = Pick<MachineSpec, 'layers' | 'readOnlyBinds' | 'shape' | 'note'>;

/** Where its own is. */
type DiskPlace = Pick<MicrovmLayout, 'diskDir'>;

/** Names of a machine's own disk in its directory: a new file system, or what was written since another machine's was kept. */
const firstDisk = 'disk.ext4';
const laterDisk = 'disk.qcow2';

/**
 * Makes the disk a new machine writes to and finds those it reads. Layers that another machine wrote come first in a stack and lie
 * under the new disk itself; the directories below them are file systems of their own, put together inside.
 */
export async function disksOf(kit: QemuKit, layout: DiskPlace, spec: DiskSpec): Promise<MachineDisks> {
  const kept = await keptDisks(spec.layers);
  return disksAbove(kit, spec, [await makeOwnDisk(kit, layout, { kept, sizeBytes: spec.shape.diskBytes }), ...kept]);
}

/** The disks of a machine that has one already. Throws `snapshot_failed` when it has none. */
export async function disksAgain(kit: QemuKit, { diskDir }: DiskPlace, spec: DiskSpec): Promise<MachineDisks> {
  const chain = await keptDisks([diskDir, ...spec.layers]);
  if (chain.length === 0) throw new AppError('snapshot_failed', 'the machine has lost its disk');
  return disksAbove(kit, spec, chain);
}

/** The file a machine writes to. */
export async function ownDisk({ diskDir }: DiskPlace): Promise<string> {
  const [own] = await keptDisks([diskDir]);
  if (own === undefined) throw new AppError('snapshot_failed', 'the machine has lost its disk');
  return own.path;
}

async function disksAbove(kit: QemuKit, spec: DiskSpec, chain: readonly DiskFile[]): Promise<MachineDisks> {
  const directories = spec.layers.slice(chain.length - 1);
  const read = async (directory: string): Promise<DiskChain> => {
    const path = await layerDisk(kit, directory, spec.note);
    return { writable: false, chain: [{ path, format: 'raw' }] };
  };
  const binds = spec.readOnlyBinds.map(({ from }) => from);
  const disks = await Promise.all([...directories, ...binds].map(read));
  return { disks: [{ writable: true, chain }, ...disks], layerCount: directories.length };
}

/** How many disks a machine has: those it has of other machines lie under its own. */
export async function countDisks({ layers, readOnlyBinds }: DiskSpec): Promise<number> {
  return 1 + layers.length - (await keptDisks(layers)).length + readOnlyBinds.length;
}

async function keptDisks(layers: readonly string[]): Promise<readonly DiskFile[]> {
  const kept: DiskFile[] = [];
  for (const directory of layers) {
    // A machine's disk is in a directory of the host's own; in an image a file of that name is just a file.
    if ((await stat(directory).catch(() => null))?.uid !== 0) break;
    const later = join(directory, laterDisk);
    const first = join(directory, firstDisk);
    if (await isFile(later)) kept.push({ path: later, format: 'qcow2' });
    else if (await isFile(first)) kept.push({ path: first, format: 'raw' });
    else break;
  }
  return kept;
}

async function makeOwnDisk(
  kit: QemuKit,
  { diskDir }: DiskPlace,
  { kept, sizeBytes }: { readonly kept: readonly DiskFile[]; readonly sizeBytes: number },
): Promise<DiskFile> {
  await mkdir(diskDir, { mode: 0o700 });
  try {
    if (kept[0] !== undefined) return await makeLaterDisk(kit, join(diskDir, laterDisk), kept[0]);
    return await makeFirstDisk(kit, join(diskDir, firstDisk), sizeBytes);
  } catch (error) {
    throw asAppError(error, 'provision_failed', 'the disk of a machine could not be made');
  }
}

/** An empty file system of this size, sparse: it takes space on the host as the machine writes. */
export async function makeFirstDisk(kit: QemuKit, path: string, sizeBytes: number): Promise<DiskFile> {
  const file = await open(path, 'wx', 0o600);
  await file.truncate(sizeBytes).finally(() => file.close());
  // Nobody waits for tables to be zeroed that a sparse file reads as zeroes anyway.
  const lazy = 'lazy_itable_init=1,lazy_journal_init=1,nodiscard';
  const argv = ['-q', '-F', '-t', 'ext4', '-m', '0', '-J', 'size=8', '-E', lazy, path];
  await runProgram([...kitArgv(kit.rootDir, 'sbin/mke2fs'), ...argv]);
  return { path, format: 'raw' };
}

/** What is written from now on above a disk that stays as it is. That one was a machine's: it is not opened, only measured. */
async function makeLaterDisk(kit: QemuKit, path: string, below: DiskFile): Promise<DiskFile> {
  const sizeBytes = await diskBytes(below);
  const argv = ['create', '-q', '-u', '-f', 'qcow2', '-F', below.format, '-b', below.path, path, String(sizeBytes)];
  await runProgram([...kitArgv(kit.rootDir, 'bin/qemu-img'), ...argv]);
  return { path, format: 'qcow2' };
}

const qcow2SizeOffset = 24;

async function diskBytes({ path, format }: DiskFile): Promise<number> {
  if (format === 'raw') return (await stat(path)).size;
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, qcow2SizeOffset);
    return Number(buffer.readBigUInt64BE());
  } finally {
    await file.close();
  }
}

/**
 * The file system image of a directory that never changes, with the owners as the machine sees them. Made once, beside the directory,
 * so that it goes with its layer. Several callers at a time wait for one another. Throws `provision_failed`.
 */
export async function layerDisk(kit: QemuKit, directory: string, note = (_: string) => {}): Promise<string> {
  const path = layerDiskPath(directory);
  if (await isFile(path)) return path;
  const running = underWay.get(path) ?? makeLayerDisk(kit, directory, path).finally(() => underWay.delete(path));
  underWay.set(path, running);
  const said = setTimeout(() => note('turning an image into a disk for virtual machines, once'), worthSayingMs);
  await running.finally(() => clearTimeout(said));
  return path;
}

const underWay = new Map<string, Promise<void>>();

async function makeLayerDisk(kit: QemuKit, directory: string, path: string): Promise<void> {
  const found = await stat(directory).catch(() => null);
  if (!found?.isDirectory()) throw new AppError('provision_failed', `the layer ${directory} is not here`);
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  // Outside a machine the owners are shifted, see `id-map.ts`; what belongs to this host's own users stays as it is.
  const offset = found.uid >= idMap.baseId ? -idMap.baseId : 0;
  const argv = [
    ...kitArgv(kit.rootDir, 'bin/mkfs.erofs'),
    ...['--quiet', `--uid-offset=${offset}`, `--gid-offset=${offset}`, draft, directory],
  ];
  try {
    await runProgram(argv, { timeoutMs: makeTimeoutMs });
    // The layer may be known to be on the disk itself; a power loss must not leave a part of this under its name.
    await runProgram(['sync', draft]);
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw asAppError(error, 'provision_failed', `the layer ${directory} could not be turned into a disk`);
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
