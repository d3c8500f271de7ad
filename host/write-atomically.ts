import { rename, rm, writeFile } from 'node:fs/promises';

/** Writes a file so that readers see the old content or the new, never a part. One writer of a path at a time. */
export async function writeAtomically(path: string, content: string): Promise<void> {
  const temp = `${path}.tmp`;
  try {
    await writeFile(temp, content);
    await rename(temp, path);
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
}
