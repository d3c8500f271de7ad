import { chmod, lchown, link, lutimes, mkdir, open, symlink, utimes } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { idMap } from './id-map.ts';
import { showPath, type TarEntry, type TarErrorCode } from './layer-tar.ts';

/** Files up to this size are read whole and written beside the reading of what follows. */
const smallFileBytes = 256 * 1024;
const maxWritesAtOnce = 16;

interface Unpacking {
  readonly root: Buffer;
  readonly code: TarErrorCode;
  /** What each path of the tree is. Nothing but this program writes below `root`, so the map is the truth. */
  readonly tree: Map<string, 'directory' | 'file' | 'symlink'>;
  readonly directories: { readonly path: string; readonly mode: number; readonly modifiedAtS: number }[];
  readonly symlinks: Map<string, TarEntry>;
  readonly writes: Set<Promise<void>>;
  readonly maxEntries: number;
  failure: { readonly error: unknown } | null;
}

/**
 * Writes the entries of a stranger's archive into the empty directory `rootDir`, owned by a capsule's root. Symlinks are made
 * last, so while files are written there is none that could be followed. Throws `AppError(code)` naming the entry.
 */
export async function unpackEntries(
  entries: AsyncIterable<TarEntry>,
  rootDir: string,
  options: { readonly code: TarErrorCode; readonly maxEntries: number },
): Promise<void> {
  const unpacking: Unpacking = {
    root: Buffer.from(`${rootDir}/`),
    ...options,
    tree: new Map([['', 'directory']]),
    directories: [],
    symlinks: new Map(),
    writes: new Set(),
    failure: null,
  };
  try {
    for await (const entry of entries) {
      await place(unpacking, entry);
      if (unpacking.failure !== null) throw unpacking.failure.error;
    }
  } finally {
    await Promise.allSettled(unpacking.writes);
  }
  if (unpacking.failure !== null) throw unpacking.failure.error;
  await makeSymlinks(unpacking);
  await finishDirectories(unpacking);
}

async function place(unpacking: Unpacking, entry: TarEntry): Promise<void> {
  if (entry.path === '') {
    if (entry.type !== 'directory') throw refusal(unpacking, entry, 'stands for the root of the tree');
    return;
  }
  await makeParents(unpacking, entry);
  if (entry.type === 'directory') return placeDirectory(unpacking, entry);
  if (unpacking.tree.has(entry.path)) throw refusal(unpacking, entry, 'is there twice');
  if (entry.type === 'file') return placeFile(unpacking, entry);
  if (entry.type === 'link') return placeLink(unpacking, entry);
  if (entry.type !== 'symlink') throw refusal(unpacking, entry, `is a ${entry.type}`);
  unpacking.tree.set(entry.path, 'symlink');
  unpacking.symlinks.set(entry.path, entry);
}

async function makeParents(unpacking: Unpacking, entry: TarEntry): Promise<void> {
  for (let end = entry.path.indexOf('/'); end !== -1; end = entry.path.indexOf('/', end + 1)) {
    const parent = entry.path.slice(0, end);
    const type = unpacking.tree.get(parent);
    if (type === undefined) await makeDirectory(unpacking, parent, entry);
    else if (type !== 'directory') throw refusal(unpacking, entry, `leads through the ${type} ${showPath(parent)}`);
  }
}

async function placeDirectory(unpacking: Unpacking, entry: TarEntry): Promise<void> {
  const type = unpacking.tree.get(entry.path);
  if (type !== undefined && type !== 'directory') throw refusal(unpacking, entry, 'is there twice');
  if (type === undefined) await makeDirectory(unpacking, entry.path, entry);
  unpacking.directories.push({ path: entry.path, mode: entry.mode & 0o777, modifiedAtS: entry.modifiedAtS });
}

async function makeDirectory(unpacking: Unpacking, path: string, entry: TarEntry): Promise<void> {
  // Directories an archive only implies count too: a few long names could otherwise make millions.
  if (unpacking.tree.size > unpacking.maxEntries) throw refusal(unpacking, entry, 'is one directory too many');
  const onDisk = at(unpacking, path);
  await mkdir(onDisk, { mode: 0o755 });
  await lchown(onDisk, idMap.baseId, idMap.baseId);
  unpacking.tree.set(path, 'directory');
}

async function placeFile(unpacking: Unpacking, entry: TarEntry): Promise<void> {
  unpacking.tree.set(entry.path, 'file');
  if (entry.sizeBytes > smallFileBytes) return writeFile(unpacking, entry, entry.body);
  const chunks: Uint8Array[] = [];
  for await (const chunk of entry.body) chunks.push(chunk);
  await beside(unpacking, () => writeFile(unpacking, entry, chunks));
}

/** Starts a write without waiting for it, but never more than a few at once. Its failure is thrown at the next entry. */
async function beside(unpacking: Unpacking, write: () => Promise<void>): Promise<void> {
  if (unpacking.writes.size >= maxWritesAtOnce) await Promise.race(unpacking.writes);
  const writing: Promise<void> = write()
    .catch((error) => {
      unpacking.failure ??= { error };
    })
    .finally(() => unpacking.writes.delete(writing));
  unpacking.writes.add(writing);
}

async function writeFile(
  unpacking: Unpacking,
  entry: TarEntry,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  const file = await open(at(unpacking, entry.path), 'wx', 0o600);
  try {
    for await (const chunk of chunks) await file.writeFile(chunk);
    await file.chown(idMap.baseId, idMap.baseId);
    await file.chmod(entry.mode & 0o777);
    await file.utimes(entry.modifiedAtS, entry.modifiedAtS);
  } finally {
    await file.close();
  }
}

async function placeLink(unpacking: Unpacking, entry: TarEntry): Promise<void> {
  const type = unpacking.tree.get(entry.linkTarget);
  const symlinked = unpacking.symlinks.get(entry.linkTarget);
  if (symlinked !== undefined) {
    unpacking.tree.set(entry.path, 'symlink');
    unpacking.symlinks.set(entry.path, symlinked);
    return;
  }
  if (type !== 'file')
    throw refusal(unpacking, entry, `links to ${showPath(entry.linkTarget)}, which is no earlier file`);
  await Promise.all(unpacking.writes);
  if (unpacking.failure !== null) throw unpacking.failure.error;
  await link(at(unpacking, entry.linkTarget), at(unpacking, entry.path));
  unpacking.tree.set(entry.path, 'file');
}

async function makeSymlinks(unpacking: Unpacking): Promise<void> {
  for (const [path, { linkTarget, modifiedAtS }] of unpacking.symlinks) {
    const onDisk = at(unpacking, path);
    await symlink(Buffer.from(linkTarget, 'latin1'), onDisk);
    await lchown(onDisk, idMap.baseId, idMap.baseId);
    await lutimes(onDisk, modifiedAtS, modifiedAtS);
  }
}

/** Deepest first, because making an entry touches the directory it is in. */
async function finishDirectories(unpacking: Unpacking): Promise<void> {
  const deepestFirst = unpacking.directories.sort((a, b) => b.path.length - a.path.length);
  for (const { path, mode, modifiedAtS } of deepestFirst) {
    const onDisk = at(unpacking, path);
    await chmod(onDisk, mode);
    await utimes(onDisk, modifiedAtS, modifiedAtS);
  }
}

function at(unpacking: Unpacking, path: string): Buffer {
  return Buffer.concat([unpacking.root, Buffer.from(path, 'latin1')]);
}

function refusal(unpacking: Unpacking, entry: TarEntry, why: string): AppError {
  return new AppError(unpacking.code, `entry ${showPath(entry.path)} ${why}`);
}
