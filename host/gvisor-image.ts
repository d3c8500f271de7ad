import { chown, lstat, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { idMap } from './id-map.ts';
import { isRecord } from './is-record.ts';
import { removeTree } from './layer-tree.ts';
import type { RunBriefly } from './resident-programs.ts';

/** What a capsule's memory depends on besides its disk: it can go on with the same only. */
export interface ImageNeeds {
  /** gVisor with its version and how it runs. */
  readonly label: string;
  /** The program that is the capsule's init, whose path names what is in it. */
  readonly agentPath: string;
}

const factsName = 'capsule.json';
const syncTimeoutMs = 600_000;

/**
 * Where the memory of a capsule is in the copy of its disk, so that both are one layer. It is below a directory that every disk has, and
 * belongs to the host's root, which is nobody's in a capsule: none can look into it, or put something else in its place.
 */
export function memoryOnDisk(diskDir: string): string {
  return join(diskDir, '.caisson', 'memory');
}

/** Makes the empty place for memory on the copy of a disk; what the capsule had there goes. Throws `snapshot_failed`. */
export async function makeMemoryPlace(diskDir: string, run: RunBriefly): Promise<string> {
  const memoryDir = memoryOnDisk(diskDir);
  const parent = dirname(memoryDir);
  await mkdir(parent).then(
    () => chown(parent, idMap.baseId, idMap.baseId),
    () => {},
  );
  if (!(await lstat(parent)).isDirectory()) throw new AppError('snapshot_failed', 'there is no place for the memory');
  await removeTree(memoryDir, run);
  await mkdir(memoryDir, { mode: 0o700 });
  return memoryDir;
}

/** Completes what is kept in `draftDir`, on disk for good, and gives it its name. */
export async function publishImage(
  { label, agentPath }: ImageNeeds,
  { draftDir, memoryDir, directory }: { draftDir: string; memoryDir: string; directory: string },
  run: RunBriefly,
): Promise<void> {
  const facts = { version: 1, label, agent: basename(agentPath) };
  await writeFile(join(memoryDir, factsName), JSON.stringify(facts), { mode: 0o600 });
  await run(['sync', '--file-system', draftDir], { timeoutMs: syncTimeoutMs });
  await rename(draftDir, directory);
  await run(['sync', dirname(directory)]);
}

/** Throws `snapshot_failed` when there is no memory here, or none that could go on. */
export async function checkImage({ label, agentPath }: ImageNeeds, memoryDir: string): Promise<void> {
  const places = await Promise.all([dirname(memoryDir), memoryDir].map((path) => lstat(path).catch(() => null)));
  const isOurs = places.every((place) => place?.isDirectory()) && places[1]?.uid === 0;
  const text = isOurs ? await readFile(join(memoryDir, factsName), 'utf8').catch(() => 'null') : 'null';
  const facts: unknown = JSON.parse(text);
  if (!isRecord(facts) || facts.version !== 1)
    throw new AppError('snapshot_failed', 'no memory was kept with this disk');
  if (facts.label === label && facts.agent === basename(agentPath)) return;
  throw new AppError('snapshot_failed', `memory kept by ${facts.label}, or with another agent, cannot go on here`);
}
