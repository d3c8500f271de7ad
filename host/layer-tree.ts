import { runProgram } from './run-program.ts';

/** Deletes a tree of a capsule's making: any names, any depth, never through a mount. */
export async function removeTree(path: string): Promise<void> {
  await runProgram(['rm', '--recursive', '--force', '--one-file-system', '--', path], { timeoutMs: 600_000 });
}

/** Disk space of a tree in bytes, hard links counted once. */
export async function diskUsage(path: string): Promise<number> {
  const { stdout } = await runProgram(['du', '-s', '-x', '--block-size=1', '--', path], { timeoutMs: 600_000 });
  return Number.parseInt(stdout, 10);
}
