import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';

export type ArchiveEntry = Partial<Header> & { readonly name: string; readonly content?: string | Uint8Array };

export interface Archive {
  readonly digest: string;
  readonly bytes: Uint8Array;
}

/** A tar, not compressed. What the packing library refuses to write has to be forged with `patchedHeader`. */
export async function tarOf(entries: readonly ArchiveEntry[]): Promise<Buffer> {
  const archive = pack();
  const chunks: Uint8Array[] = [];
  archive.on('data', (chunk) => chunks.push(chunk as Uint8Array));
  const ended = new Promise((resolve) => archive.on('end', () => resolve(null)));
  for (const { content, ...header } of entries)
    archive.entry(header, content === undefined ? '' : Buffer.from(content));
  archive.finalize();
  await ended;
  return Buffer.concat(chunks);
}

export function archiveOf(tar: Uint8Array): Archive {
  return raw(gzipSync(tar));
}

export function raw(bytes: Uint8Array): Archive {
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}

/** Overwrites bytes of the header at `offset` and mends its checksum. */
export function patchedHeader(
  tar: Buffer,
  offset: number,
  patches: readonly (readonly [number, Uint8Array | string])[],
): Buffer {
  const copy = Buffer.from(tar);
  for (const [at, bytes] of patches) copy.set(Buffer.from(bytes as Uint8Array), offset + at);
  copy.fill(' ', offset + 148, offset + 156);
  const sum = copy.subarray(offset, offset + 512).reduce((total, byte) => total + byte, 0);
  copy.write(`${sum.toString(8).padStart(6, '0')}\0 `, offset + 148, 'latin1');
  return copy;
}

/** The bytes in pieces, as a network gives them. */
export async function* pieces(bytes: Uint8Array, pieceBytes = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}
