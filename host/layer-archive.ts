import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { AppError } from '@caisson/contracts/app-error';
import { diskRoom } from './disk-room.ts';
import { readProgram, runProgram } from './run-program.ts';

const timeoutMs = 3_600_000;
/** Owners by number, attributes (overlayfs keeps its marks there), holes as holes. */
const faithfully = ['--numeric-owner', '--xattrs', '--xattrs-include=*', '--sparse'];
const compression = { params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: 1 } };

/** A file or tree of a directory as a compressed tar. Throws `ProgramError`, at the latest after the last byte. */
export async function* packLayer(directory: string, member: string): AsyncIterable<Uint8Array> {
  const packed = createZstdCompress(compression);
  const argv = ['tar', '--create', ...faithfully, '--directory', directory, '--', member];
  pipeline(readProgram(argv, { timeoutMs }), packed).catch(() => {});
  yield* packed;
}

/**
 * Unpacks what `packLayer` gave into a directory in which there is nothing of that name but an empty directory. The archive is a
 * stranger's: nothing is written anywhere else. Throws `disk_full`, `snapshot_failed`, `ProgramError`, or what `bytes` throws.
 */
export async function unpackLayer(bytes: AsyncIterable<Uint8Array>, directory: string, member: string): Promise<void> {
  const plain = createZstdDecompress();
  pipeline(bytes, plain).catch(() => {});
  const { freeBytes } = await diskRoom(directory);
  const argv = ['tar', '--extract', ...faithfully, '--same-owner', '--same-permissions', '--directory', directory];
  await runProgram([...argv, '--', member], { stdin: atMost(plain, freeBytes), timeoutMs });
  await refuseDevices(join(directory, member));
}

async function* atMost(bytes: AsyncIterable<Uint8Array>, limitBytes: number): AsyncIterable<Uint8Array> {
  let sizeBytes = 0;
  for await (const chunk of bytes) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw new AppError('disk_full', 'the disk of the host is full: a layer does not fit');
    yield chunk;
  }
}

/** A capsule cannot make any but those by which overlayfs knows that something was removed: they are devices without a number. */
async function refuseDevices(path: string): Promise<void> {
  const { stdout } = await runProgram(['find', path, '-xdev', '-type', 'b,c', '-print0'], { timeoutMs });
  for (const device of stdout.split('\0').filter((name) => name !== '')) {
    const found = await lstat(device);
    if (found.rdev !== 0) throw new AppError('snapshot_failed', 'there are devices in the layer');
  }
}
