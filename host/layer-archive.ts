import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { AppError } from '@caisson/contracts/app-error';
import { atMost } from '@caisson/contracts/at-most';
import { diskRoom } from './disk-room.ts';
import { readProgram, runProgram } from './run-program.ts';

const timeoutMs = 3_600_000;
/** One layer may take so much of what is free. */
const mostOfFree = 0.5;
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

const doesNotFit = () => new AppError('disk_full', 'the disk of the host is full: a layer does not fit');

/** What `packLayer` is asked for. */
export interface Member {
  readonly name: string;
  readonly type: 'file' | 'directory';
  /** It holds the host's own files, not a capsule's: nothing but directories and files. */
  readonly isPlain: boolean;
}

/**
 * Unpacks what `packLayer` gave into a directory in which there is nothing of that name but an empty directory. The archive is a
 * stranger's: nothing is written anywhere else, and nothing in it leads anywhere else when the host opens it. Throws `disk_full`,
 * `snapshot_failed`, `ProgramError`, or what `bytes` throws.
 */
export async function unpackLayer(bytes: AsyncIterable<Uint8Array>, directory: string, member: Member): Promise<void> {
  const plain = createZstdDecompress();
  pipeline(bytes, plain).catch(() => {});
  const { freeBytes } = await diskRoom(directory);
  const argv = ['tar', '--extract', ...faithfully, '--same-owner', '--same-permissions', '--directory', directory];
  await runProgram([...argv, '--', member.name], {
    stdin: atMost(plain, freeBytes * mostOfFree, doesNotFit),
    timeoutMs,
  });
  const path = join(directory, member.name);
  const found = await lstat(path);
  const isWhatItIs = member.type === 'file' ? found.isFile() : found.isDirectory();
  if (!isWhatItIs) throw new AppError('snapshot_failed', 'the layer is not what it is said to be');
  await (member.isPlain ? refuseOdd(path) : refuseDevices(path));
}

/** Throws `snapshot_failed` when there is anything but directories and ordinary files in a tree: what the host opens may lead away, or block it. */
export async function refuseOdd(path: string): Promise<void> {
  const { stdout } = await runProgram(['find', path, '!', '-type', 'd', '!', '-type', 'f', '-print', '-quit'], {
    timeoutMs,
  });
  if (stdout !== '')
    throw new AppError('snapshot_failed', 'there are links, pipes or devices among the files of the host');
}

/** A capsule cannot make any but those by which overlayfs knows that something was removed: they are devices without a number. */
async function refuseDevices(path: string): Promise<void> {
  const found = readProgram(['find', path, '-xdev', '-type', 'b,c', '-print0'], { timeoutMs });
  for await (const device of namesIn(found)) {
    const { rdev } = await lstat(device);
    if (rdev !== 0) throw new AppError('snapshot_failed', 'there are devices in the layer');
  }
}

/** File names, which may be of any bytes, each behind a zero. */
async function* namesIn(bytes: AsyncIterable<Uint8Array>): AsyncIterable<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of bytes) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      yield rest.subarray(0, end);
      rest = rest.subarray(end + 1);
    }
  }
}
