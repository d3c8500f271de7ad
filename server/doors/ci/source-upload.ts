import { Readable } from 'node:stream';
import { AppError } from '@caisson/contracts/app-error';
import type { CiCaller, CiDeps, Output } from './operation.ts';
import { recordSource } from './record-source.ts';
import { findOrganization } from './scope.ts';

interface SourceUpload {
  readonly path: { readonly org: string };
  /** The archive as it arrives; anything but a stream came under another content type. */
  readonly body: unknown;
}

/** Streams an archive to the blob store and answers under which digest builds may name it. */
export async function uploadSource(
  deps: CiDeps,
  caller: CiCaller,
  { path, body }: SourceUpload,
): Promise<Output<'uploadSource'>> {
  const organization = await findOrganization(deps, caller, { ...path, action: 'source.upload' });
  if (!(body instanceof Readable)) {
    throw new AppError('unsupported_media_type', 'send the archive as application/gzip');
  }
  const stored = await deps.blobs.put(checked(body, deps.maxSourceBytes));
  await recordSource(deps.db, organization.id, stored);
  return { digest: stored.digest, size_bytes: stored.sizeBytes };
}

/** Passes the bytes on; throws as soon as they are too many, or at once when they do not begin like gzip. */
async function* checked(body: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  let sizeBytes = 0;
  let head = Buffer.alloc(0);
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) throw new AppError('payload_too_large', `a source archive has at most ${maxBytes} bytes`);
    if (head.length < 2) {
      head = Buffer.concat([head, chunk.subarray(0, 2)]);
      if (head.length >= 2 && !isGzip(head)) throw notGzip();
    }
    yield chunk;
  }
  if (head.length < 2) throw notGzip();
}

function isGzip(head: Buffer): boolean {
  return head[0] === 0x1f && head[1] === 0x8b;
}

function notGzip(): AppError {
  return new AppError('source_invalid', 'the body is not a gzipped tar');
}
