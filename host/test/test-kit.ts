import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findQemuKit, prepareQemuKit } from '../qemu-kit.ts';

/** Where tests keep QEMU: fetched once per machine. */
export const testKitsDir = join(tmpdir(), 'caisson-test-cache', 'kits');

/** Null when micro-virtual machines can be tested here, else why not, said aloud. */
export async function microvmProblem(): Promise<string | null> {
  try {
    if (process.getuid?.() !== 0) throw new Error('that needs root');
    if ((await findQemuKit(testKitsDir)) === null) await prepareQemuKit({ kitsDir: testKitsDir });
    return null;
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    console.warn(`skipped: micro-virtual machines (${problem}); run: scripts/setup vm`);
    return problem;
  }
}
