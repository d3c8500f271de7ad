import { spawn, spawnSync } from 'node:child_process';

/**
 * Runs a program to its end, from here as directly as Node can; throws unless it exits with 0. Returns what it printed. It has a
 * process group of its own: a Ctrl-C ends the bench, which lets the calls under way end as well instead of halfway.
 */
export async function runToEnd(argv: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options });
  const parts: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout.on('data', (part: Buffer) => parts.stdout.push(part));
  child.stderr.on('data', (part: Buffer) => parts.stderr.push(part));
  const code = await new Promise<number | string | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, signal) => resolve(exitCode ?? signal));
  });
  const stdout = Buffer.concat(parts.stdout).toString();
  if (code === 0) return stdout;
  throw new Error(
    `${argv.slice(0, 3).join(' ')} … ended with ${code}: ${Buffer.concat(parts.stderr).toString().slice(-300)}`,
  );
}

export function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}
