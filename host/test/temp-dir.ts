import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { removeTree } from '../layer-tree.ts';

/** A new directory that is gone when the test ends. */
export async function tempDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
  onTestFinished(() => removeTree(dir));
  return dir;
}
