import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lchown, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AppError, hasCode } from '@caisson/contracts/app-error';
import { atMost } from '@caisson/contracts/at-most';
import { crashPoint } from '@caisson/contracts/crash-point';
import { digestChecked } from './digest-check.ts';
import { isDiskFull } from './disk-full.ts';
import { exists } from './exists.ts';
import { idMap } from './id-map.ts';
import type { DiskLayers } from './layer-disk.ts';
import type { SourceStore } from './layer-store.ts';
import { type TarLimits, tarEntries } from './layer-tar.ts';
import { unpackEntries } from './source-unpack.ts';

export interface SourceLimits extends TarLimits {
  readonly maxArchiveBytes: number;
}

const defaultSourceLimits: SourceLimits = {
  maxArchiveBytes: 4 * 1024 ** 3,
  maxUnpackedBytes: 16 * 1024 ** 3,
  maxEntries: 1_000_000,
  maxRatio: 200,
};

const keepUnusedMs = 24 * 3600_000;

interface SourceStoreOptions {
  /** Archives wait in `<dataDir>/sources` until they are unpacked. */
  readonly dataDir: string;
  readonly layers: DiskLayers;
  readonly limits?: Partial<SourceLimits>;
}

interface State {
  readonly dir: string;
  readonly layers: DiskLayers;
  readonly limits: SourceLimits;
  readonly unpacking: Map<string, Promise<string>>;
}

/** Opens the sources of a data directory and removes uploads a killed predecessor did not finish. */
export async function createSourceStore(options: SourceStoreOptions): Promise<SourceStore> {
  const dir = join(options.dataDir, 'sources');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  for (const name of await readdir(dir)) if (name.startsWith('.tmp-')) await rm(join(dir, name), { force: true });
  await removeForgotten(dir);
  const limits = { ...defaultSourceLimits, ...options.limits };
  const state: State = { dir, layers: options.layers, limits, unpacking: new Map() };
  return {
    has: (digest) => has(state, digest),
    put: (digest, bytes) => put(state, digest, bytes),
    layerFor: (digest) => layerForOnce(state, digest),
  };
}

async function has(state: State, digest: string): Promise<boolean> {
  checkDigest(digest);
  return (await isUnpacked(state, digest)) || (await exists(archivePath(state, digest)));
}

async function put(state: State, digest: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  checkDigest(digest);
  const temp = join(state.dir, `.tmp-${randomUUID()}`);
  try {
    const checked = digestChecked(limited(bytes, state.limits), digest);
    await pipeline(checked, createWriteStream(temp, { flags: 'wx', mode: 0o600 }));
    crashPoint('source.received');
    await rename(temp, archivePath(state, digest));
    crashPoint('source.stored');
    await removeForgotten(state.dir);
  } catch (error) {
    throw diskError(error);
  } finally {
    await rm(temp, { force: true });
  }
}

/** Archives that were uploaded for a run that never came. */
async function removeForgotten(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    const found = await stat(join(dir, name)).catch(() => null);
    if (found !== null && Date.now() - found.mtimeMs > keepUnusedMs) await rm(join(dir, name), { force: true });
  }
}

function limited(bytes: AsyncIterable<Uint8Array>, { maxArchiveBytes }: SourceLimits): AsyncIterable<Uint8Array> {
  const message = `the source archive is larger than ${maxArchiveBytes} bytes`;
  return atMost(bytes, maxArchiveBytes, () => new AppError('source_invalid', message));
}

function layerForOnce(state: State, digest: string): Promise<string> {
  const running = state.unpacking.get(digest);
  if (running !== undefined) return running;
  const started = layerFor(state, digest).finally(() => state.unpacking.delete(digest));
  state.unpacking.set(digest, started);
  return started;
}

async function layerFor(state: State, digest: string): Promise<string> {
  checkDigest(digest);
  const layerId = layerIdOf(digest);
  if (!(await isUnpacked(state, digest))) {
    const sizeBytes = await archiveSize(state, digest);
    await state.layers.add(layerId, 'source', (diffDir) => unpack(state, { digest, sizeBytes, diffDir }));
  }
  crashPoint('source.unpacked');
  // The layer says all the archive said; should it be collected, `has` asks for the archive again.
  await rm(archivePath(state, digest), { force: true });
  return layerId;
}

async function unpack(state: State, job: { digest: string; sizeBytes: number; diffDir: string }): Promise<void> {
  const workspace = join(job.diffDir, 'workspace');
  await mkdir(workspace, { mode: 0o755 });
  for (const dir of [job.diffDir, workspace]) await lchown(dir, idMap.baseId, idMap.baseId);
  const path = archivePath(state, job.digest);
  const bytes = limited(createReadStream(path, { highWaterMark: 256 * 1024 }), state.limits);
  const entries = tarEntries({
    bytes,
    sizeBytes: job.sizeBytes,
    gzip: true,
    limits: state.limits,
    code: 'source_invalid',
  });
  try {
    await unpackEntries(entries, workspace, { code: 'source_invalid', maxEntries: state.limits.maxEntries });
    await chmod(workspace, 0o755);
  } catch (error) {
    // An archive that cannot be unpacked is of no use to anyone; one the disk had no room for is.
    if (hasCode(error, 'source_invalid')) await rm(path, { force: true });
    throw diskError(error);
  }
}

function diskError(error: unknown): unknown {
  return isDiskFull(error)
    ? new AppError('disk_full', 'the disk of the host is full: the source does not fit', { cause: error })
    : error;
}

async function isUnpacked(state: State, digest: string): Promise<boolean> {
  return (await state.layers.stackOf(layerIdOf(digest))) !== null;
}

async function archiveSize(state: State, digest: string): Promise<number> {
  const found = await stat(archivePath(state, digest)).catch(() => null);
  if (found === null) throw new AppError('source_invalid', `source ${digest} is not on this host; upload it again`);
  return found.size;
}

function checkDigest(digest: string): void {
  if (!/^[0-9a-f]{64}$/.test(digest))
    throw new AppError('invalid_argument', `${JSON.stringify(digest)} is no sha256 digest`);
}

function layerIdOf(digest: string): string {
  return `source-${digest}`;
}

function archivePath(state: State, digest: string): string {
  return join(state.dir, `${digest}.tar.gz`);
}
