import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { imageTooLarge, isDiskFull } from './disk-full.ts';
import { idMap } from './id-map.ts';
import { emptyDirectory } from './image-debian.ts';
import { shiftOwners } from './image-owners.ts';
import type { ImageReference } from './image-reference.ts';
import { showPath, type TarEntry, type TarLimits, tarEntries } from './layer-tar.ts';
import { ProgramError, runProgram } from './run-program.ts';

const inspectTimeoutMs = 30_000;
const copyTimeoutMs = 30 * 60_000;
const unpackTimeoutMs = 30 * 60_000;

/** The digest a registry gives for a reference now. One request. Throws `image_unavailable`. */
export async function inspectImage(reference: ImageReference, signal: AbortSignal): Promise<string> {
  const argv = ['skopeo', 'inspect', '--raw', ...tls('--tls-verify', reference), `docker://${reference.name}`];
  try {
    const { stdout } = await runProgram(argv, { timeoutMs: inspectTimeoutMs, signal });
    return `sha256:${createHash('sha256').update(stdout).digest('hex')}`;
  } catch (error) {
    throw registryError(reference, error);
  }
}

/** True when the registry answered and said that there is no such image, so that a cached copy is no stand-in. */
export function isAbsent(error: unknown): boolean {
  return error instanceof Error && /does not exist in the registry/.test(error.message);
}

interface ImageFetch {
  readonly reference: ImageReference;
  readonly digest: string;
  readonly limits: TarLimits;
  /** Empty directory for the download. */
  readonly scratchDir: string;
  /** Empty directory that becomes the root filesystem, owned by capsule ids. */
  readonly rootDir: string;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Downloads the image with this digest and unpacks it; returns the environment it asks for. The bytes are a stranger's: nothing
 * is unpacked before every entry of every layer was looked at. Throws `image_unavailable`, `image_invalid`.
 */
export async function fetchImage(fetch: ImageFetch): Promise<Readonly<Record<string, string>>> {
  const layout = join(fetch.scratchDir, 'layout');
  fetch.progress(`pulling image ${fetch.reference.name}`);
  await copy(fetch, layout);
  const image = await readImage(layout, fetch);
  const sum = { bytes: 0, entries: 0 };
  for (const layer of image.layers) await checkLayer(fetch, blobOf(layout, layer, fetch), sum);
  fetch.progress(`unpacking image ${fetch.reference.name}`);
  await unpack(fetch, layout);
  return image.env;
}

async function copy(fetch: ImageFetch, layout: string): Promise<void> {
  const { reference, limits, signal } = fetch;
  const source = `docker://${reference.repository}@${fetch.digest}`;
  // No file may grow beyond the limit, whatever size the manifest claims.
  const argv = ['prlimit', `--fsize=${limits.maxUnpackedBytes}`, '--', 'skopeo', 'copy', '--insecure-policy'];
  try {
    await runProgram([...argv, ...tls('--src-tls-verify', reference), source, `oci:${layout}:image`], {
      timeoutMs: copyTimeoutMs,
      signal,
      onLine: (line) => {
        const blob = /^Copying blob (\S+)/.exec(line)?.[1];
        if (blob !== undefined) fetch.progress(`pulling image ${reference.name}: layer ${blob.slice(0, 19)}`);
      },
    });
  } catch (error) {
    throw registryError(reference, error);
  }
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
}

interface OciImage {
  readonly layers: readonly Descriptor[];
  readonly env: Readonly<Record<string, string>>;
}

async function readImage(layout: string, fetch: ImageFetch): Promise<OciImage> {
  try {
    const index = await readJson(join(layout, 'index.json'));
    const manifest = await readJson(blobPath(layout, descriptor(list(index, 'manifests')[0]).digest));
    const config = await readJson(blobPath(layout, descriptor(member(manifest, 'config')).digest));
    const layers = list(manifest, 'layers').map(descriptor);
    return { layers, env: environment(member(config, 'config')) };
  } catch (cause) {
    throw invalid(fetch, 'its manifest or configuration is not what the OCI format asks for', cause);
  }
}

interface LayerBlob {
  readonly path: string;
  readonly gzip: boolean;
}

function blobOf(layout: string, layer: Descriptor, fetch: ImageFetch): LayerBlob {
  const compression = /\.tar(\+gzip|\.gzip)?$/.exec(layer.mediaType);
  if (compression === null)
    throw invalid(fetch, `its layers are of type ${layer.mediaType}, and only tar and tar+gzip can be unpacked`);
  return { path: blobPath(layout, layer.digest), gzip: compression[1] !== undefined };
}

/** Looks at every entry of a layer; `sum` is what all layers so far unpack to. */
async function checkLayer(fetch: ImageFetch, blob: LayerBlob, sum: { bytes: number; entries: number }): Promise<void> {
  const { limits } = fetch;
  const { size: sizeBytes } = await stat(blob.path);
  const bytes = createReadStream(blob.path, { highWaterMark: 256 * 1024 });
  const input = { bytes, sizeBytes, gzip: blob.gzip, limits, code: 'image_invalid', isLenient: true } as const;
  try {
    for await (const entry of tarEntries(input)) {
      fetch.signal.throwIfAborted();
      sum.bytes += entry.sizeBytes;
      if (sum.bytes > limits.maxUnpackedBytes || ++sum.entries > limits.maxEntries)
        throw new AppError(
          'image_invalid',
          `it unpacks to more than ${limits.maxUnpackedBytes} bytes or ${limits.maxEntries} entries`,
        );
      checkEntry(entry);
    }
  } catch (error) {
    throw error instanceof AppError ? invalid(fetch, error.message, error) : error;
  }
}

function checkEntry(entry: TarEntry): void {
  if (entry.path === '' && entry.type !== 'directory')
    throw new AppError('image_invalid', 'its root is not a directory');
  // Nodes below dev are never used, capsules get their own.
  const isDevice = entry.type.endsWith('-device') && !entry.path.startsWith('dev/');
  if (isDevice) throw new AppError('image_invalid', `it holds the device ${showPath(entry.path)}`);
}

async function unpack(fetch: ImageFetch, layout: string): Promise<void> {
  const rootfs = join(fetch.scratchDir, 'rootfs');
  const map = `0:${idMap.baseId}:${idMap.count}`;
  const argv = ['prlimit', `--fsize=${fetch.limits.maxUnpackedBytes}`, '--', 'umoci', 'raw', 'unpack'];
  try {
    await runProgram([...argv, '--uid-map', map, '--gid-map', map, '--image', `${layout}:image`, rootfs], {
      timeoutMs: unpackTimeoutMs,
      signal: fetch.signal,
    });
  } catch (error) {
    fetch.signal.throwIfAborted();
    if (isDiskFull(error)) throw imageTooLarge(fetch.reference.name, error);
    throw error instanceof ProgramError ? invalid(fetch, error.message, error) : error;
  }
  for (const name of ['dev', 'proc', 'sys']) await emptyDirectory(join(rootfs, name));
  const { stdout } = await runProgram([
    'find',
    '-P',
    rootfs,
    '-xdev',
    '(',
    '-type',
    'b',
    '-o',
    '-type',
    'c',
    ')',
    '-print',
    '-quit',
  ]);
  if (stdout !== '') throw invalid(fetch, 'it holds devices');
  // Directories the image only implies were made by the host's own root.
  await shiftOwners(rootfs);
  await rename(rootfs, fetch.rootDir);
}

function tls(option: string, reference: ImageReference): readonly string[] {
  return reference.isLoopback ? [`${option}=false`] : [];
}

/** Says which of the three it was: no such image, no such registry, or bytes that are not what their names promise. */
function registryError(reference: ImageReference, error: unknown): unknown {
  if (!(error instanceof ProgramError)) return error;
  if (isDiskFull(error)) return imageTooLarge(reference.name, error);
  if (error.cause instanceof Error && error.exitCode === null && error.message.includes('was stopped'))
    return error.cause;
  const said = error.stderr.trim().split('\n').at(-1) ?? '';
  const detail = /msg="(.*)"$/.exec(said)?.[1]?.replaceAll('\\"', '"') ?? error.message;
  const { name, registry } = reference;
  if (/manifest unknown|name unknown|not found/i.test(detail))
    return new AppError('image_unavailable', `image ${name} does not exist in the registry`, { cause: error });
  if (/unauthorized|denied|authentication required/i.test(detail))
    return new AppError(
      'image_unavailable',
      `image ${name} is not public, or does not exist: registry ${registry} refuses it (${detail})`,
      { cause: error },
    );
  if (
    /digest|unexpected EOF|invalid|parsing|unmarshal|unsupported|mismatch|too large/i.test(detail) &&
    !/lookup|dial tcp/.test(detail)
  )
    return new AppError('image_invalid', `image ${name} is damaged: ${detail}`, { cause: error });
  const advice = `Check the name and the network, or give ${name} a stand-in by an image alias in the configuration`;
  return new AppError(
    'image_unavailable',
    `registry ${registry} of image ${name} cannot be reached: ${detail}. ${advice}`,
    { cause: error },
  );
}

function invalid(fetch: ImageFetch, why: string, cause?: unknown): AppError {
  return new AppError('image_invalid', `image ${fetch.reference.name} cannot be used: ${why}`, { cause });
}

function environment(config: unknown): Readonly<Record<string, string>> {
  const env = typeof config === 'object' && config !== null && 'Env' in config ? config.Env : null;
  const lines = Array.isArray(env) ? env.filter((line) => typeof line === 'string') : [];
  const pairs = lines.filter((line) => line.indexOf('=') > 0 && !line.includes('\0'));
  return Object.fromEntries(pairs.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, 'utf8'));
}

function member(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) throw new Error(`no object with ${key}`);
  return (value as Record<string, unknown>)[key] ?? null;
}

function list(value: unknown, key: string): readonly unknown[] {
  const found = member(value, key);
  if (!Array.isArray(found)) throw new Error(`${key} is no list`);
  return found;
}

function descriptor(value: unknown): Descriptor {
  const [mediaType, digest] = [member(value, 'mediaType'), member(value, 'digest')];
  if (typeof mediaType !== 'string' || typeof digest !== 'string' || !/^sha256:[0-9a-f]{64}$/.test(digest))
    throw new Error('no descriptor');
  return { mediaType, digest };
}

function blobPath(layout: string, digest: string): string {
  return join(layout, 'blobs', 'sha256', digest.slice('sha256:'.length));
}
