import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { postgresAccount } from './postgres-account.ts';
import { postgresPackage, preparePostgresBinaries } from './postgres-binaries.ts';
import { databaseName, ensureCluster } from './postgres-cluster.ts';
import type { DirectoryLock } from './postgres-lock.ts';
import { lockDirectory } from './postgres-lock.ts';
import { endOrphans } from './postgres-orphans.ts';
import { forgetProven, keepProven, type Proven, recallProven } from './postgres-proven.ts';
import { reachingAccount } from './postgres-reach.ts';
import type { ServerRequest, ServerRun } from './postgres-server.ts';
import { runServer } from './postgres-server.ts';

/** The kernel's limit for the path of a unix socket, its ending zero included, is 108 bytes. */
const maxSocketPathBytes = 107;
const firstPauseMs = 100;
const maxPauseMs = 10_000;
/** A server that lived this long was well; the next pause starts small again. */
const soundAfterMs = 30_000;

/** The part of a pino logger that is used here. */
export interface PostgresLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

interface PostgresOptions {
  /** A directory for the database alone; made when missing. */
  readonly dataDir: string;
  readonly log: PostgresLog;
  /** Called once the server program runs and is getting ready by itself. */
  readonly onLaunch?: () => void;
  /** Aborting it is the same as `stop()`. */
  readonly signal?: AbortSignal;
  /** False gives up safety against power loss for speed: for tests only. Default true. */
  readonly durable?: boolean;
}

/** A running database. */
interface Postgres {
  /** For the database `caisson`, over a unix socket that only this user (and root) can open. */
  readonly connectionString: string;
  /** The pid of the server now; it changes when the server had to be started again. */
  pid(): number;
  /** Ends the database; resolves when its last process is gone. */
  stop(): Promise<void>;
  /** Resolves with the reason once the database is over for good. */
  readonly exited: Promise<string>;
}

/**
 * Runs the embedded PostgreSQL in `dataDir`: makes the cluster on the first start, takes over from a supervisor that was
 * killed, starts the server again whenever it dies. The caller's thread must be one that lives on: the server ends with it.
 * Throws `database_unavailable` when another process has the directory, or with what PostgreSQL said.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  options.signal?.throwIfAborted();
  const dataDir = resolve(options.dataDir);
  checkSocketPath(dataDir);
  await mkdir(dataDir, { recursive: true });
  const lock = await lockDirectory(dataDir);
  try {
    return supervise({ ...(await start(dataDir, options)), lock, options });
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Starts the server as last time, else finds out anew how to. */
async function start(dataDir: string, options: PostgresOptions): Promise<Started> {
  const circumstances = [dataDir, process.getuid?.(), await postgresPackage()];
  const known = await recallProven(dataDir, circumstances);
  const again = known && (await startAs(known, dataDir, options).catch(() => null));
  if (again !== null) return again;
  await forgetProven(dataDir);
  const proven = await prove(dataDir);
  const started = await startAs(proven, dataDir, options);
  await keepProven(dataDir, circumstances, proven);
  return started;
}

async function startAs(proven: Proven, dataDir: string, options: PostgresOptions): Promise<Started> {
  const request = await prepare(proven, dataDir, options);
  return { request, first: await firstRun(request, options.onLaunch) };
}

async function prove(dataDir: string): Promise<Proven> {
  const found = await postgresAccount(join(dataDir, 'cluster'));
  const account = found && (await reachingAccount(found, dataDir));
  return { account, binaries: await preparePostgresBinaries({ account, copyDir: dataDir }) };
}

async function prepare(
  { account, binaries }: Proven,
  dataDir: string,
  { durable = true, log }: PostgresOptions,
): Promise<ServerRequest> {
  const clusterDir = join(dataDir, 'cluster');
  await ensureCluster({ clusterDir, account, binaries, durable });
  const onLine = (line: string) => {
    if (/^(WARNING|ERROR|FATAL|PANIC)/.test(line)) log.warn({ line }, 'postgres says');
    else log.info({ line }, 'postgres says');
  };
  return { postgres: binaries.postgres, clusterDir, account, durable, onLine };
}

/** Starts the server for the first time, where a failure is told instead of tried again. */
async function firstRun(request: ServerRequest, onLaunch: () => void = () => {}): Promise<ServerRun> {
  await endOrphans(request.clusterDir);
  const lines: string[] = [];
  const onLine = (line: string) => {
    if (lines.length < 20) lines.push(line);
    request.onLine(line);
  };
  const run = runServer({ ...request, onLine });
  onLaunch();
  if (await run.ready) return run;
  throw new AppError('database_unavailable', `PostgreSQL ended at once (${await run.exited}): ${lines.join(' | ')}`);
}

interface Started {
  readonly request: ServerRequest;
  readonly first: ServerRun;
}

interface Supervision extends Started {
  readonly lock: DirectoryLock;
  readonly options: PostgresOptions;
}

function supervise({ request, first, lock, options }: Supervision): Postgres {
  const stopping = new AbortController();
  let run = first;
  const restart = async (pauseMs: number) => {
    await delay(pauseMs, undefined, { signal: stopping.signal });
    await endOrphans(request.clusterDir);
    run = runServer(request);
  };
  const keepRunning = async () => {
    let pauseMs = firstPauseMs;
    while (!stopping.signal.aborted) {
      const startedMs = performance.now();
      const reason = await run.exited;
      if (stopping.signal.aborted) break;
      pauseMs = performance.now() - startedMs > soundAfterMs ? firstPauseMs : Math.min(pauseMs * 2, maxPauseMs);
      options.log.warn({ reason, pauseMs }, 'postgres ended by itself, starting it again');
      await restart(pauseMs).catch((error) => {
        if (!stopping.signal.aborted) options.log.warn({ err: error }, 'postgres could not be started again yet');
      });
    }
    await run.stop();
    return 'stopped';
  };
  const exited = keepRunning().finally(() => lock.release());
  const stop = async () => {
    stopping.abort();
    await run.stop();
    await exited;
  };
  options.signal?.addEventListener('abort', () => void stop(), { once: true });
  const socketDir = encodeURIComponent(request.clusterDir);
  const connectionString = `postgresql://${databaseName}@/${databaseName}?host=${socketDir}`;
  return { connectionString, pid: () => run.pid, stop, exited };
}

function checkSocketPath(dataDir: string): void {
  const spareBytes = maxSocketPathBytes - Buffer.byteLength(join(dataDir, 'cluster', '.s.PGSQL.5432'));
  if (spareBytes >= 0) return;
  throw new AppError(
    'database_unavailable',
    `${dataDir} is ${-spareBytes} bytes too long for the path of a unix socket; choose a shorter data directory`,
  );
}
