import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@caisson/contracts/app-error';

const noRoom = 'the disk that keeps sources is full; try again when its operator has made room';

/** Bytes by sha256 (lower hex). */
export interface Blobs {
  /** Stores a stream and returns its digest and size; equal bytes are stored once. Throws `disk_full`. */
  put(bytes: AsyncIterable<Uint8Array>): Promise<{ digest: string; sizeBytes: number }>;
  has(digest: string): Promise<boolean>;
  /** The bytes; rejects with ENOENT when they are not here. */
  read(digest: string): AsyncIterable<Uint8Array>;
}

/** Blobs as files of a directory. A file appears under its digest only when it is complete. */
export async function openDirectoryBlobs(directory: string): Promise<Blobs> {
  await mkdir(directory, { recursive: true });
  const pathOf = (digest: string) => {
    if (!/^[0-9a-f]{64}$/.test(digest)) throw new Error(`not a digest: ${digest}`);
    return join(directory, digest);
  };
  return {
    async put(bytes) {
      const temporary = join(directory, `.tmp-${randomUUID()}`);
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
  };
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}
