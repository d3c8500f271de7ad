import { createHash } from 'node:crypto';
import { AppError } from '@caisson/contracts/app-error';

/** The bytes as they are; after the last one throws `blob_digest_mismatch` when they do not hash to `digest` (sha256, lower hex). */
export async function* digestChecked(bytes: AsyncIterable<Uint8Array>, digest: string): AsyncIterable<Uint8Array> {
  const hash = createHash('sha256');
  for await (const chunk of bytes) {
    hash.update(chunk);
    yield chunk;
  }
  const found = hash.digest('hex');
  if (found !== digest)
    throw new AppError('blob_digest_mismatch', `the archive hashes to ${found}, not ${digest}; upload it again`);
}
