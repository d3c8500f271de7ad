import { asAppError } from './container-errors.ts';
import { exists } from './exists.ts';
import type { RunBriefly } from './resident-programs.ts';
import { runProgram } from './run-program.ts';

/**
 * Removes a tree of a capsule's making; one that is not there is fine. `rm` walks by directory handle, so that neither the depth of the
 * tree nor a link swapped in can lead it astray, and it stays on one file system in case something is still mounted there.
 */
export async function removeTree(directory: string, run: RunBriefly = runProgram): Promise<void> {
  if (!(await exists(directory))) return;
  await run(['rm', '-rf', '--one-file-system', '--', directory], { timeoutMs: 600_000 }).catch((error: unknown) => {
    throw asAppError(error, 'provision_failed', `${directory} could not be removed`);
  });
}

/** Disk space of a tree in bytes, hard links counted once. */
export async function diskUsage(path: string): Promise<number> {
  const { stdout } = await runProgram(['du', '-s', '-x', '--block-size=1', '--', path], { timeoutMs: 600_000 });
  return Number.parseInt(stdout, 10);
}
