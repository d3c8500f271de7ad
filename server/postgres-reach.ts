import { chmod } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { Account } from './postgres-account.ts';
import { runAs } from './postgres-run.ts';

/**
 * In a mount namespace of its own: covers the closed directory ($3) with an empty one that can be entered, and puts the data
 * directory ($2) back at the same path inside. $1 holds it meanwhile. Nothing changes for any other process.
 */
const openPath = `set -e
mount --bind "$2" "$1"
mount -t tmpfs -o mode=755,size=64k caisson "$3"
mkdir -p "$2"
mount --move "$1" "$2"
shift 3
exec "$@"`;

/**
 * The account, able to enter the data directory: as it is, or with a view of its own where a directory above is closed to it
 * (below /root, or a 0700 directory for temporary files). Throws `database_unavailable` when neither works.
 */
export async function reachingAccount(account: Account, dataDir: string): Promise<Account> {
  if (await canEnter(account, dataDir)) return account;
  // The data directory itself is the database's own, so opening it takes nothing from anyone.
  await chmod(dataDir, 0o711);
  if (await canEnter(account, dataDir)) return account;
  const closedDir = await topmostClosed(account, dataDir);
  const holdDir = dataDir.startsWith('/mnt/') ? '/media' : '/mnt';
  const unshare = ['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c', openPath, 'sh'];
  const viewing = { ...account, entry: [...unshare, holdDir, dataDir, closedDir] };
  if (await canEnter(viewing, dataDir)) return viewing;
  throw new AppError(
    'database_unavailable',
    `PostgreSQL runs as ${account.name}, which cannot enter ${closedDir}; choose another data directory or open that one (chmod o+x)`,
  );
}

async function canEnter(account: Account, dir: string): Promise<boolean> {
  return (await runAs(['test', '-x', dir], { account })).exitCode === 0;
}

async function topmostClosed(account: Account, dir: string): Promise<string> {
  const above = dirname(dir);
  if (above === dir || (await canEnter(account, above))) return dir;
  return topmostClosed(account, above);
}
