import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Account } from './postgres-account.ts';
import type { PostgresBinaries } from './postgres-binaries.ts';

/** Who runs PostgreSQL, and which binaries: found out by trying, at the price of several processes. */
export interface Proven {
  readonly account: Account | null;
  readonly binaries: PostgresBinaries;
}

/** What was found out, if that was on this directory, by this user and with these packages; null when it has to be tried again. */
export async function recallProven(dataDir: string, circumstances: readonly unknown[]): Promise<Proven | null> {
  try {
    const kept = JSON.parse(await readFile(pathIn(dataDir), 'utf8'));
    return JSON.stringify(kept.circumstances) === JSON.stringify(circumstances) ? kept.proven : null;
  } catch {
    return null;
  }
}

/** Keeps what was found out for later starts. */
export async function keepProven(dataDir: string, circumstances: readonly unknown[], proven: Proven): Promise<void> {
  const temporary = `${pathIn(dataDir)}.new`;
  await writeFile(temporary, `${JSON.stringify({ circumstances, proven })}\n`, { mode: 0o600 });
  await rename(temporary, pathIn(dataDir));
}

/** The next start tries again. */
export async function forgetProven(dataDir: string): Promise<void> {
  await rm(pathIn(dataDir), { force: true });
}

function pathIn(dataDir: string): string {
  return join(dataDir, 'proven.json');
}
