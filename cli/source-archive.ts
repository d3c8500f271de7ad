import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  createReadStream,
  createWriteStream,
  fstatSync,
  openSync,
  readFileSync,
  readlinkSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { codeOf, listSource, type SourceEntry } from './list-source.ts';

type EntryHeader = Parameters<Pack['entry']>[0];

/** A working tree on its way to a capsule. */
export interface SourceArchive {
  /** A gzipped tar; must be read to its end. */
  readonly stream: Readable;
  /** Settles when the stream has ended. Fails with the stream. */
  readonly summary: Promise<SourceSummary>;
}

export interface SourceSummary {
  /** Lower-hex sha256 of the archive's bytes. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly fileCount: number;
  /** What was left out though no rule says so, one line each. */
  readonly warnings: readonly string[];
}

export interface PackOptions {
  /** Absolute paths to leave out, such as a data directory inside the tree. */
  readonly exclude?: readonly string[];
}

/**
 * One time for every file, so that equal trees have equal digests and their unpacked layer is reused, in whichever clone they lie.
 * A checkout's own times say nothing either; and to `make`, files of one age are up to date. Not 0: zip cannot tell times before 1980.
 */
const fixedTime = new Date('2000-01-01T00:00:00Z');
/** Above this a file is streamed. */
const wholeFileBytes = 1024 * 1024;
/** A local archive is read once, at once: time counts for more than the last tenth of its size. */
const gzipLevel = 1;
const chunkBytes = 256 * 1024;

/**
 * Packs `folder` as a deterministic gzipped tar: sorted, one modification time, modes 0644 and 0755, no owners. What travels is said
 * at `listSource`. A file that cannot be read is left out with a warning; one that shrinks while it is read fails the stream.
 */
export function packSource(folder: string, options: PackOptions = {}): SourceArchive {
  const root = resolve(folder);
  const listing = listSource(root, options.exclude);
  const warnings = [...listing.warnings];
  const hash = createHash('sha256');
  let sizeBytes = 0;
  let fileCount = 0;
  const measure = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      hash.update(chunk);
      sizeBytes += chunk.length;
      done(null, chunk);
    },
  });
  const tar = pack();
  const feeding = (async () => {
    for (const entry of listing.entries) {
      const problem = await addEntry(tar, root, entry);
      if (problem === null) fileCount += 1;
      else warnings.push(`${entry.path}: left out, ${problem}`);
    }
    tar.finalize();
  })();
  feeding.catch((error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))));
  const flowing = pipeline(inLargeChunks(tar), createGzip({ level: gzipLevel, chunkSize: chunkBytes }), measure);
  const summary = Promise.all([feeding, flowing]).then(() => ({
    digest: hash.digest('hex'),
    sizeBytes,
    fileCount,
    warnings,
  }));
  summary.catch(() => {});
  return { stream: measure, summary };
}

/** Packs `folder` into a new file. On failure the file may be left behind incomplete. */
export async function writeSourceArchive(
  folder: string,
  file: string,
  options: PackOptions = {},
): Promise<SourceSummary> {
  const { stream, summary } = packSource(folder, options);
  await pipeline(stream, createWriteStream(file, { flags: 'wx', mode: 0o600 }));
  return summary;
}

/** Every chunk is a trip to the compressor's thread and back; a tar of small files comes in very many. */
async function* inLargeChunks(tar: Pack): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of tar as AsyncIterable<Buffer>) {
    held.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes < chunkBytes) continue;
    yield Buffer.concat(held);
    held = [];
    heldBytes = 0;
  }
  yield Buffer.concat(held);
}

/** Null, or why the entry was left out. Resolves once the archive has room for the next one. */
async function addEntry(tar: Pack, root: string, { path, kind }: SourceEntry): Promise<string | null> {
  const header = { name: path, mtime: fixedTime, uid: 0, gid: 0 };
  const file = join(root, path);
  if (kind === 'symlink') {
    const target = attempt(() => readlinkSync(file));
    if (!target.ok) return target.problem;
    await put(tar, { ...header, type: 'symlink', mode: 0o777, linkname: target.value }, '');
    return null;
  }
  const opened = attempt(() => openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
  if (!opened.ok) return opened.problem;
  const descriptor = opened.value;
  try {
    const { size, mode } = fstatSync(descriptor);
    const withMode = { ...header, mode: (mode & 0o100) === 0 ? 0o644 : 0o755 };
    if (size > wholeFileBytes) await putStream(tar, { ...withMode, size }, descriptor);
    else await put(tar, withMode, readFileSync(descriptor));
    return null;
  } finally {
    closeSync(descriptor);
  }
}

function attempt<T>(
  read: () => T,
): { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string } {
  try {
    return { ok: true, value: read() };
  } catch (error) {
    return { ok: false, problem: `it cannot be read (${codeOf(error)})` };
  }
}

function put(tar: Pack, header: EntryHeader, content: Buffer | string): Promise<void> {
  return new Promise((resolved, rejected) => {
    tar.entry(header, content, (error) => (error ? rejected(error) : resolved()));
  });
}

async function putStream(
  tar: Pack,
  header: EntryHeader & { readonly size: number },
  descriptor: number,
): Promise<void> {
  const content = createReadStream('', { fd: descriptor, autoClose: false, start: 0, end: header.size - 1 });
  let written = 0;
  await new Promise<void>((resolved, rejected) => {
    const sink = tar.entry(header, (error) => (error ? rejected(error) : resolved()));
    content.on('data', (chunk) => {
      written += chunk.length;
    });
    sink.on('error', rejected);
    content.once('error', rejected);
    content.once('end', () => {
      if (written < header.size) rejected(new Error(`${header.name} shrank while it was packed; run again`));
    });
    content.pipe(sink);
  });
}
