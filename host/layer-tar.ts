import { createGunzip } from 'node:zlib';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import { extract, type Header } from 'tar-stream';

export interface TarLimits {
  /** All bytes of the archive once it is decompressed. */
  readonly maxUnpackedBytes: number;
  readonly maxEntries: number;
  /** Decompressed by compressed size; only asked for beyond 64 MiB, because small archives of zeros are harmless. */
  readonly maxRatio: number;
}

export type TarErrorCode = 'source_invalid' | 'image_invalid';

export interface TarEntry {
  /** Path from the root of the archive, one character per byte (latin1), without `.`, `..` or doubled slashes; empty: the root. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'link' | 'character-device' | 'block-device' | 'fifo';
  readonly sizeBytes: number;
  readonly mode: number;
  readonly modifiedAtS: number;
  /** Target of a symlink as it stands, one character per byte; of a hard link, a path like `path`. */
  readonly linkTarget: string;
  readonly body: AsyncIterable<Uint8Array>;
}

interface TarInput {
  readonly bytes: AsyncIterable<Uint8Array>;
  readonly sizeBytes: number;
  readonly gzip: boolean;
  readonly limits: TarLimits;
  /** Accepts what some image tools write: a slash in front of names, and no padding behind the last byte. */
  readonly isLenient?: boolean;
  /** What a refusal is thrown as. */
  readonly code: TarErrorCode;
}

/** The package's types know only its stream options: a variable, because a literal would have to have those alone. */
const extractOptions = { highWaterMark: 64 * 1024, filenameEncoding: 'latin1', allowUnknownFormat: true };
const ratioFromBytes = 64 * 1024 * 1024;
const maxPathBytes = 3072;
const maxNameBytes = 255;
/** Looking a name up costs as much as it is deep, for the host as for everyone after it. */
const maxDepth = 256;
const maxTargetBytes = 4095;

/**
 * Entries of a tar of a stranger's making, in order; the body of each has to be read before the next. Understands ustar, pax and
 * GNU long names. Throws `AppError(input.code)` that names the entry for everything that is damaged, too much, or can only be
 * meant to reach out of the tree.
 */
export async function* tarEntries(input: TarInput): AsyncGenerator<TarEntry> {
  const archive = extract(extractOptions);
  const refuse = (why: string, cause?: unknown) => new AppError(input.code, why, { cause });
  let entries = 0;
  let last = 'the start';
  const asRefusal = (error: unknown) => {
    if (error instanceof AppError || isSystemError(error)) return error;
    return refuse(`the archive is damaged behind ${last}: ${messageOf(error)}`, error);
  };
  void feed(input, archive);
  try {
    for await (const body of archive) {
      if (++entries > input.limits.maxEntries)
        throw refuse(`the archive has more than ${input.limits.maxEntries} entries`);
      const entry = entryOf(body.header, { refuse, isLenient: input.isLenient ?? false });
      last = showPath(entry.path);
      yield { ...entry, body: readable(body, asRefusal) };
      body.resume();
    }
  } catch (error) {
    throw asRefusal(error);
  } finally {
    archive.destroy(null);
  }
}

/** The package's types leave out that its streams can be iterated. */
async function* readable(body: object, asRefusal: (error: unknown) => unknown): AsyncGenerator<Uint8Array> {
  try {
    yield* body as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw asRefusal(error);
  }
}

/** A path of an archive as people can read it, quoted and cut short. */
export function showPath(path: string): string {
  const text = Buffer.from(path, 'latin1').toString('utf8');
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/** Never fails itself: what goes wrong is thrown by the iteration of the archive. */
async function feed(input: TarInput, archive: ReturnType<typeof extract>): Promise<void> {
  try {
    for await (const chunk of decompressed(input)) {
      if (archive.destroyed) return;
      if (!archive.write(chunk)) await drained(archive);
    }
    archive.end(null);
  } catch (error) {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
  }
}

interface Drainable {
  on(event: 'drain' | 'close', listener: () => void): unknown;
  off(event: 'drain' | 'close', listener: () => void): unknown;
}

function drained(stream: Drainable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}

async function* decompressed(input: TarInput): AsyncGenerator<Uint8Array> {
  const { limits, code } = input;
  let outBytes = 0;
  for await (const chunk of input.gzip ? gunzipped(input.bytes) : input.bytes) {
    outBytes += chunk.length;
    if (outBytes > limits.maxUnpackedBytes)
      throw new AppError(code, `the archive unpacks to more than ${limits.maxUnpackedBytes} bytes`);
    if (outBytes > ratioFromBytes && outBytes > limits.maxRatio * input.sizeBytes)
      throw new AppError(code, `the archive unpacks to more than ${limits.maxRatio} times its size`);
    yield chunk;
  }
  if (input.isLenient) yield new Uint8Array((512 - (outBytes % 512)) % 512);
}

async function* gunzipped(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: 64 * 1024 });
  const feeding = (async () => {
    for await (const chunk of bytes) {
      if (gunzip.destroyed) return;
      if (!gunzip.write(chunk)) await drained(gunzip);
    }
    gunzip.end();
  })().catch((error) => gunzip.destroy(error));
  try {
    yield* gunzip;
    await feeding;
  } finally {
    gunzip.destroy();
  }
}

interface Strictness {
  readonly refuse: (why: string, cause?: unknown) => AppError;
  readonly isLenient: boolean;
}

const knownTypes: Readonly<Record<string, TarEntry['type']>> = {
  file: 'file',
  'contiguous-file': 'file',
  directory: 'directory',
  symlink: 'symlink',
  link: 'link',
  'character-device': 'character-device',
  'block-device': 'block-device',
  fifo: 'fifo',
};

function entryOf(header: Header, strictness: Strictness): Omit<TarEntry, 'body'> {
  const { refuse } = strictness;
  const pax = (header.pax ?? {}) as Record<string, string | undefined>;
  const rawName = pax.path === undefined ? header.name : utf8AsLatin1(pax.path);
  const rawTarget = pax.linkpath === undefined ? (header.linkname ?? '') : utf8AsLatin1(pax.linkpath);
  const path = cleanPath(rawName, strictness);
  if (pax.path?.includes('\ufffd')) throw refuse(`entry ${showPath(path)} has a name that is not UTF-8`);
  const type = knownTypes[header.type ?? ''];
  if (type === undefined) throw refuse(`entry ${showPath(path)} is of an unknown type`);
  if (Object.keys(pax).some((key) => key.startsWith('GNU.sparse')))
    throw refuse(`entry ${showPath(path)} is a sparse file`);
  const sizeBytes = header.size ?? 0;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw refuse(`entry ${showPath(path)} has no valid size`);
  const linkTarget = type === 'link' ? cleanPath(rawTarget, strictness) : rawTarget;
  if (type === 'symlink' && (rawTarget === '' || rawTarget.includes('\0') || rawTarget.length > maxTargetBytes))
    throw refuse(`symlink ${showPath(path)} has no valid target`);
  return { path, type, sizeBytes, mode: header.mode ?? 0, modifiedAtS: modifiedAtS(header, pax), linkTarget };
}

function cleanPath(name: string, { refuse, isLenient }: Strictness): string {
  if (name.includes('\0')) throw refuse(`entry ${showPath(name)} has a zero byte in its name`);
  if (name.startsWith('/') && !isLenient) throw refuse(`entry ${showPath(name)} has an absolute name`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw refuse(`entry ${showPath(name)} leads out of the tree`);
  const path = parts.join('/');
  if (path.length > maxPathBytes || parts.length > maxDepth || parts.some((part) => part.length > maxNameBytes))
    throw refuse(`entry ${showPath(name)} has too long a name`);
  return path;
}

/** Seconds since 1970, kept where every file system can store them. */
function modifiedAtS(header: Header, pax: Record<string, string | undefined>): number {
  const fromPax = Number.parseFloat(pax.mtime ?? '');
  const seconds = Number.isFinite(fromPax) ? fromPax : (header.mtime?.getTime() ?? 0) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 0xffff_ffff) : 0;
}

function utf8AsLatin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}
