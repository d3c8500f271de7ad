import { rename, rm, writeFile } from 'node:fs/promises';
import { orUndo } from './or-undo.ts';

/** Writes a file so that readers see the old content or the new, never a part. One writer of a path at a time. */
export async function writeAtomically(path: string, content: string): Promise<void> {
  const temp = `${path}.tmp`;
  const write = async () => {
    await writeFile(temp, content);
    await rename(temp, path);
  };
  await orUndo(write, () => rm(temp, { force: true }));
}
