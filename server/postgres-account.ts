import { readFile, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { AppError } from '@caisson/contracts/app-error';

/** An entry of the password file. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Put before its commands, as root. */
  readonly entry: readonly string[];
}

/**
 * Who runs PostgreSQL, which refuses to be root: null for the user of this process, or, when that is root, the owner of an
 * existing cluster, else `postgres`, else `nobody`. Nothing is created. Throws `database_unavailable` when there is no such account.
 */
export async function postgresAccount(clusterDir: string): Promise<Account | null> {
  if (process.getuid?.() !== 0) return null;
  const accounts = await readAccounts();
  const ownerUid = await ownerOf(clusterDir);
  const account =
    ownerUid === null
      ? (accounts.find(({ name }) => name === 'postgres') ?? accounts.find(({ name }) => name === 'nobody'))
      : accounts.find(({ uid }) => uid === ownerUid);
  if (!account) {
    const wanted = ownerUid === null ? '`postgres` or `nobody`' : `with uid ${ownerUid}, which owns ${clusterDir}`;
    throw new AppError(
      'database_unavailable',
      `PostgreSQL does not run as root, and this machine has no other account ${wanted}`,
    );
  }
  return account;
}

/** Name of the user of this process. PostgreSQL needs one, so a bare uid is refused with `database_unavailable`. */
export function ownName(): string {
  try {
    return userInfo().username;
  } catch (cause) {
    throw new AppError('database_unavailable', `uid ${process.getuid?.()} has no entry in /etc/passwd; add one`, {
      cause,
    });
  }
}

async function ownerOf(path: string): Promise<number | null> {
  try {
    // PostgreSQL never ran as root, so what root owns there is no cluster.
    return (await stat(path)).uid || null;
  } catch {
    return null;
  }
}

async function readAccounts(): Promise<Account[]> {
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n');
  return lines
    .map((line) => line.split(':'))
    .filter((fields) => fields.length >= 4)
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid), entry: [] }));
}
