import { chmod, lchown, lstat, readdir } from 'node:fs/promises';
import { idMap } from './id-map.ts';

const slash = Buffer.from('/');

/**
 * Gives a tree built by the host's root to the ids of capsules: `n` becomes `base + n`. Keeps setuid bits, which a change of
 * owner clears. What already belongs to capsule ids stays, so a hard link met twice is shifted once.
 */
export async function shiftOwners(rootDir: string): Promise<void> {
  await shift(Buffer.from(rootDir));
}

async function shift(path: Buffer): Promise<void> {
  const found = await lstat(path);
  if (found.uid < idMap.count) {
    await lchown(path, found.uid + idMap.baseId, found.gid + idMap.baseId);
    if ((found.mode & 0o6000) !== 0 && !found.isSymbolicLink()) await chmod(path, found.mode & 0o7777);
  }
  if (!found.isDirectory()) return;
  const names = await readdir(path, { encoding: 'buffer' });
  await Promise.all(names.map((name) => shift(Buffer.concat([path, slash, name]))));
}
