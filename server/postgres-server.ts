import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { Account } from './postgres-account.ts';
import { commandAs, programEnv } from './postgres-run.ts';

/** Sized for a machine that mostly does other things: well below 250 MB with every connection idle. */
const settings = {
  listen_addresses: '',
  unix_socket_directories: '.',
  unix_socket_permissions: '0700',
  max_connections: '100',
  shared_buffers: '64MB',
  effective_cache_size: '512MB',
  maintenance_work_mem: '32MB',
  work_mem: '4MB',
  min_wal_size: '64MB',
  max_wal_size: '256MB',
  max_worker_processes: '4',
  max_parallel_workers_per_gather: '0',
  autovacuum_max_workers: '2',
  io_method: 'sync',
  huge_pages: 'off',
  jit: 'off',
  ssl: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  // Refused statements are the business of their caller, and their text may hold secrets.
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
  log_checkpoints: 'off',
  log_line_prefix: '',
};

/** For a database nobody keeps, which many control planes at once work on. */
const throwaway = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '400',
  autovacuum: 'off',
};

export interface ServerRequest {
  readonly postgres: string;
  readonly clusterDir: string;
  readonly account: Account | null;
  readonly durable: boolean;
  onLine(line: string): void;
}

/** One run of the server program. */
export interface ServerRun {
  readonly pid: number;
  /** True once it accepts connections, false when it ended before that. */
  readonly ready: Promise<boolean>;
  /** How it ended: `exit code 1`, `signal SIGKILL`. */
  readonly exited: Promise<string>;
  /** Fast shutdown: open transactions are rolled back. Harder ways follow when that takes too long. */
  stop(): Promise<void>;
}

/** Starts the server program once. It stops when the thread that called this ends, even by SIGKILL. */
export function runServer(request: ServerRequest): ServerRun {
  const { account } = request;
  const { file, args } = commandAs(account, { deathSignal: 'INT', argv: commandLine(request) });
  const child = spawn(file, args, {
    cwd: '/',
    env: programEnv,
    stdio: ['ignore', 'ignore', 'pipe'],
    // A session of its own: Ctrl-C in the terminal is for this process, which then stops the database last.
    detached: true,
  });
  const ready = Promise.withResolvers<boolean>();
  const exited = Promise.withResolvers<string>();
  createInterface({ input: child.stderr }).on('line', (line) => {
    request.onLine(line);
    if (line.includes('database system is ready to accept connections')) ready.resolve(true);
  });
  const ended = (reason: string) => {
    ready.resolve(false);
    exited.resolve(reason);
  };
  child.on('error', (error) => ended(error.message));
  child.on('close', (code, signal) => ended(signal ? `signal ${signal}` : `exit code ${code}`));
  const stop = async () => {
    for (const [signal, patienceMs] of [
      ['SIGINT', 15_000],
      ['SIGQUIT', 5_000],
      ['SIGKILL', 0],
    ] as const) {
      child.kill(signal);
      if (await endsWithin(exited.promise, patienceMs)) return;
    }
    await exited.promise;
  };
  return { pid: child.pid ?? 0, ready: ready.promise, exited: exited.promise, stop };
}

function commandLine({ postgres, clusterDir, durable }: ServerRequest): string[] {
  const all = { ...settings, ...(durable ? {} : throwaway) };
  return [postgres, '-D', clusterDir, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

async function endsWithin(end: Promise<string>, patienceMs: number): Promise<boolean> {
  const patience = new AbortController();
  try {
    return await Promise.race([
      end.then(() => true),
      delay(patienceMs, false, { signal: patience.signal, ref: false }),
    ]);
  } finally {
    patience.abort();
  }
}
