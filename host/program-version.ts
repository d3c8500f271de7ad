import type { RunBriefly } from './resident-programs.ts';
import { runProgram } from './run-program.ts';

/** The version a program says it is, `unknown` when it names none. Rejects when it cannot be run. */
export async function programVersion(argv: readonly string[], run: RunBriefly = runProgram): Promise<string> {
  const { stdout } = await run([...argv, '--version'], { timeoutMs: 10_000 });
  return /version (\S+)/.exec(stdout)?.[1] ?? 'unknown';
}
