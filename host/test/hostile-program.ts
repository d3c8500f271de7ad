import { execFile } from 'node:child_process';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Compiles `hostile-probe.c` to a static program at `path`, whatever image it will run on. */
export async function buildHostileProgram(path: string): Promise<void> {
  const source = join(import.meta.dirname, 'hostile-probe.c');
  const flags = ['-std=gnu11', '-O1', '-static', '-o', path, source];
  // musl's wrapper makes a small file fast; the system's compiler does as well.
  await run('musl-gcc', flags).catch(() => run('gcc', flags));
  await chmod(path, 0o755);
}
