import { mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { LayerKind } from '@caisson/contracts/host-api';
import { exists } from './exists.ts';
import { writeAtomically } from './write-atomically.ts';

/** What `meta.json` of a layer says. Written once; only `sizeBytes` is filled in later. */
export interface LayerMeta {
  readonly layerId: string;
  readonly kind: LayerKind;
  /** Ids of the layers underneath, top first. */
  readonly below: readonly string[];
  /** Disk space of `diff`, null until it was measured. */
  readonly sizeBytes: number | null;
  /** The boot of the machine in which the layer was written. */
  readonly bootId: string;
  /** The driver whose capsule wrote it, for only that one can start from it; absent where it is containers, or a directory for all. */
  readonly sealedBy?: 'microvm';
  /** What copies of it are called on other hosts, from when one was first asked for; absent of a sealed disk, whose own id that is. */
  readonly origin?: string;
  /** It came from another host, from where it can come again. */
  readonly isCopy?: true;
}

/** One layer as known in memory; the files of its directory say the same. */
export interface Layer {
  /** Name of its directory: short, because overlayfs takes all lower directories in one page of text. */
  readonly dirName: string;
  meta: LayerMeta;
  readonly holders: Set<string>;
  released: boolean;
  usedAtMs: number;
  /** Its bytes are known to be on the disk itself, so it survives a power cut. */
  durable: boolean;
}

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Another one each time the machine starts. */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** Refuses ids that cannot be a file name; throws `invalid_argument`. */
export function checkName(what: string, name: string): void {
  if (!namePattern.test(name))
    throw new AppError('invalid_argument', `${what} ${JSON.stringify(name)} is not a valid name`);
}

export async function writeMeta(layerDir: string, meta: LayerMeta): Promise<void> {
  await writeAtomically(join(layerDir, 'meta.json'), JSON.stringify(meta));
}

/** The layer in a directory, or null when what is there is not a whole layer. */
export async function readLayer(root: string, dirName: string): Promise<Layer | null> {
  const dir = join(root, dirName);
  const [meta, hasDiff, holders, released, usedAtMs, durable] = await Promise.all([
    readMeta(join(dir, 'meta.json')),
    exists(join(dir, 'diff')),
    readdir(join(dir, 'holders')).catch(() => []),
    exists(join(dir, 'released')),
    modifiedAtMs(join(dir, 'used')),
    exists(join(dir, 'durable')),
  ]);
  if (meta === null || !hasDiff) return null;
  return { dirName, meta, holders: new Set(holders), released, usedAtMs, durable };
}

/** Makes the marks a new layer starts with. */
export async function writeNewLayer(layerDir: string, meta: LayerMeta): Promise<void> {
  await mkdir(join(layerDir, 'holders'));
  await writeFile(join(layerDir, 'used'), '');
  await writeMeta(layerDir, meta);
}

/** Sets or clears one of the empty files by which a layer's state is recorded. */
export async function setMark(path: string, present: boolean): Promise<void> {
  if (present) await writeFile(path, '');
  else await rm(path, { force: true });
}

export async function writeUsedAt(layerDir: string, usedAtMs: number): Promise<void> {
  const at = new Date(usedAtMs);
  await utimes(join(layerDir, 'used'), at, at);
}

async function modifiedAtMs(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.mtimeMs ?? 0;
}

async function readMeta(path: string): Promise<LayerMeta | null> {
  try {
    const meta: unknown = JSON.parse(await readFile(path, 'utf8'));
    return isMeta(meta) ? meta : null;
  } catch {
    return null;
  }
}

function isMeta(value: unknown): value is LayerMeta {
  if (typeof value !== 'object' || value === null) return false;
  const meta: { layerId?: unknown; kind?: unknown; below?: unknown } = value;
  return typeof meta.layerId === 'string' && typeof meta.kind === 'string' && Array.isArray(meta.below);
}
