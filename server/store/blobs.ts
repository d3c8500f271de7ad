import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@caisson/contracts/app-error';

const noRoom = 'the disk that keeps sources is full; try again when its operator has made room';

const draftPrefix = '.tmp-';
const abandonedMs = 24 * 3_600_000;

/** Bytes by sha256 (lower hex). */
export interface Blobs {
  /** Stores a stream and returns its digest and size; equal bytes are stored once. Throws `disk_full`. */
  put(bytes: AsyncIterable<Uint8Array>): Promise<{ digest: string; sizeBytes: number }>;
  has(digest: string): Promise<boolean>;
  /** The bytes; rejects with ENOENT when they are not here. */
  read(digest: string): AsyncIterable<Uint8Array>;
  /** All that are here, with the time they came. */
  list(): Promise<readonly { readonly digest: string; readonly storedAtMs: number }[]>;
  /** Whoever reads them just now gets all of them. */
  remove(digest: string): Promise<void>;
}

/** Blobs as files of a directory. A file appears under its digest only when it is complete. */
export async function openDirectoryBlobs(directory: string): Promise<Blobs> {
  await mkdir(directory, { recursive: true });
  await removeAbandoned(directory);
  const pathOf = (digest: string) => {
    if (!isDigest(digest)) throw new Error(`not a digest: ${digest}`);
    return join(directory, digest);
  };
  return {
    async put(bytes) {
      const temporary = join(directory, `${draftPrefix}${randomUUID()}`);
      const hash = createHash('sha256');
      let sizeBytes = 0;
      const measure = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          hash.update(chunk);
          sizeBytes += chunk.length;
          done(null, chunk);
        },
      });
      try {
        await pipeline(Readable.from(bytes), measure, createWriteStream(temporary, { flush: true }));
        const digest = hash.digest('hex');
        await rename(temporary, pathOf(digest));
        return { digest, sizeBytes };
      } catch (error) {
        throw isDiskFull(error) ? new AppError('disk_full', noRoom, { cause: error }) : error;
      } finally {
        await rm(temporary, { force: true });
      }
    },
    async has(digest) {
      return (await stat(pathOf(digest)).catch(() => null)) !== null;
    },
    read: (digest) => createReadStream(pathOf(digest)),
    async list() {
      const digests = (await readdir(directory)).filter((name) => isDigest(name));
      const found = await Promise.all(digests.map((digest) => stat(pathOf(digest)).catch(() => null)));
      return digests.flatMap((digest, index) => {
        const storedAtMs = found[index]?.mtimeMs;
        return storedAtMs === undefined ? [] : [{ digest, storedAtMs }];
      });
    },
    remove: (digest) => rm(pathOf(digest), { force: true }),
  };
}

/** What somebody was about to store and never did; others may be storing just now. */
async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const found = name.startsWith(draftPrefix) ? await stat(path).catch(() => null) : null;
    if (found !== null && found.mtimeMs < Date.now() - abandonedMs) await rm(path, { force: true });
  }
}

function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}
