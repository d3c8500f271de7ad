import { spawn } from 'node:child_process';
import type { Account } from './postgres-account.ts';

export interface ProgramOptions {
  /** Who runs it; null for the user of this process. */
  readonly account: Account | null;
  /** Bytes for its stdin. */
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface ProgramResult {
  /** 0 to 255; 127 when it could not be started at all. */
  readonly exitCode: number;
  /** stdout and stderr as they came. */
  readonly output: string;
}

/** What every program gets: nothing of this process's own environment. */
export const programEnv = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TZ: 'UTC' };

interface CommandRequest {
  /** Sent to the program when the thread that started it ends, however it ends. */
  readonly deathSignal: 'KILL' | 'INT';
  readonly argv: readonly string[];
}

/** The command line that runs `argv` under the account (null: the user of this process). It keeps its pid through every step. */
export function commandAs(account: Account | null, { deathSignal, argv }: CommandRequest) {
  const drop = account ? ['--reuid', `${account.uid}`, '--regid', `${account.gid}`, '--clear-groups'] : [];
  const all = [...(account?.entry ?? []), 'setpriv', '--pdeathsig', deathSignal, ...drop, '--', ...argv];
  const [file = '', ...args] = all;
  return { file, args };
}

/** Runs a program to its end. It dies with this process. Never throws: a program that cannot be started has exit code 127. */
export function runAs(argv: readonly string[], options: ProgramOptions): Promise<ProgramResult> {
  const { account, input = '', env = {} } = options;
  return new Promise((resolve) => {
    const { file, args } = commandAs(account, { deathSignal: 'KILL', argv });
    const child = spawn(file, args, { cwd: '/', env: { ...programEnv, ...env }, stdio: 'pipe' });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => resolve({ exitCode: 127, output: error.message }));
    child.on('close', (code) => resolve({ exitCode: code ?? 128, output: Buffer.concat(chunks).toString() }));
    // A program that ends without reading its input is judged by its exit code.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
