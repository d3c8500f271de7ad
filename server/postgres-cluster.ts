import { chmod, chown, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { Account } from './postgres-account.ts';
import { ownName } from './postgres-account.ts';
import type { PostgresBinaries } from './postgres-binaries.ts';
import { runAs } from './postgres-run.ts';

export const databaseName = 'caisson';
const unfinished = 'unfinished-cluster-';

interface ClusterRequest {
  /** Holds the cluster once it is whole. */
  readonly clusterDir: string;
  readonly account: Account | null;
  readonly binaries: PostgresBinaries;
  /** False leaves everything to the page cache: for tests only. */
  readonly durable: boolean;
}

/**
 * Makes the cluster unless it is there. It is built beside its place and renamed, so that it is whole or not there at all.
 * Throws `database_unavailable` for a directory that holds something else or another major version.
 */
export async function ensureCluster(request: ClusterRequest): Promise<void> {
  const { clusterDir } = request;
  await removeUnfinished(dirname(clusterDir));
  const present = await readdir(clusterDir).catch(() => []);
  if (present.length > 0) await checkVersion(request);
  else await createCluster(request);
  await writeAccess(request);
}

async function removeUnfinished(dir: string): Promise<void> {
  const names = (await readdir(dir)).filter((name) => name.startsWith('unfinished-'));
  for (const name of names) await rm(join(dir, name), { recursive: true, force: true, maxRetries: 10 });
}

async function checkVersion({ clusterDir, binaries }: ClusterRequest): Promise<void> {
  const found = (await readFile(join(clusterDir, 'PG_VERSION'), 'utf8').catch(() => '')).trim();
  const wanted = /\d+/.exec(binaries.version)?.[0];
  if (found === wanted) return;
  const what = found
    ? `a cluster of PostgreSQL ${found}, and this is ${wanted}`
    : 'files that are not a PostgreSQL cluster';
  throw new AppError(
    'database_unavailable',
    `${clusterDir} holds ${what}; move it away or choose another data directory (nothing was changed)`,
  );
}

async function createCluster(request: ClusterRequest): Promise<void> {
  const { clusterDir, account } = request;
  const dir = await mkdtemp(join(dirname(clusterDir), unfinished));
  try {
    await chmod(dir, 0o700);
    if (account) await chown(dir, account.uid, account.gid);
    await initialize(dir, request);
    await rename(dir, clusterDir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function initialize(dir: string, { account, binaries, durable }: ClusterRequest): Promise<void> {
  const sync = durable ? [] : ['--no-sync'];
  const init = [binaries.initdb, '-D', dir, '-U', databaseName, '--auth=reject', '--encoding=UTF8'];
  const locale = ['--locale-provider=builtin', '--locale=C.UTF-8', '--no-instructions'];
  const steps = [
    { argv: [...init, ...locale, ...sync], input: '' },
    { argv: [binaries.postgres, '--single', '-D', dir, 'postgres'], input: `create database ${databaseName}\n` },
  ];
  for (const { argv, input } of steps) {
    const { exitCode, output } = await runAs(argv, { account, input });
    if (exitCode !== 0) throw new AppError('database_unavailable', `the database could not be made: ${tail(output)}`);
  }
}

/** Only the user of this process gets in, whatever name the server itself runs under. */
async function writeAccess({ clusterDir }: ClusterRequest): Promise<void> {
  const hba = `local all ${databaseName} peer map=supervisor\n`;
  const ident = `supervisor "${ownName()}" ${databaseName}\n`;
  await writeFile(join(clusterDir, 'pg_hba.conf'), hba);
  await writeFile(join(clusterDir, 'pg_ident.conf'), ident);
}

function tail(output: string): string {
  return output.trim().split('\n').slice(-5).join(' | ');
}
