/** One entry of an archive. Directories come before what is in them. */
export interface CpioEntry {
  /** Without a leading slash. */
  readonly path: string;
  readonly mode: number;
  /** Content of a file; a directory has none. */
  readonly bytes?: Uint8Array;
}

const directoryBits = 0o040000;
const fileBits = 0o100000;

/** A cpio archive in the `newc` format that Linux unpacks as its first root, everything owned by root and without times. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.flatMap((entry, index) => encodeEntry(entry, index + 1));
  return Buffer.concat([...parts, ...encodeEntry({ path: 'TRAILER!!!', mode: 0, bytes: new Uint8Array(0) }, 0)]);
}

function encodeEntry({ path, mode, bytes }: CpioEntry, inode: number): readonly Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  const typeBits = bytes === undefined ? directoryBits : fileBits;
  const content = bytes ?? new Uint8Array(0);
  const links = bytes === undefined ? 2 : 1;
  // inode, mode, uid, gid, links, time, size, four device numbers, length of the name, checksum (unused)
  const numbers = [inode, typeBits | mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`);
  return [header, name, padding(header.length + name.length), content, padding(content.length)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
