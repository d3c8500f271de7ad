import { readFileSync } from 'node:fs';

/** What a lock file says about one directory below node_modules. */
interface LockEntry {
  readonly version?: string;
  readonly optional?: boolean;
  readonly devOptional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
}

interface LockFile {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

function readLock(path: string): LockFile | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
}

/** Optional packages are mostly those of other platforms; the ones made for this one are needed. */
function isNeeded({ optional, devOptional, os, cpu, libc = ['glibc'] }: LockEntry): boolean {
  if (!optional && !devOptional) return true;
  return Boolean(os?.includes('linux') && cpu?.includes(process.arch) && libc.includes('glibc'));
}

/** Exits 0 when npm's own record of what it installed holds every package of the lock file that is needed, in the right version. */
function main(): void {
  const wanted = readLock('package-lock.json');
  const installed = readLock('node_modules/.package-lock.json');
  if (!wanted || !installed) process.exit(1);
  for (const [path, entry] of Object.entries(wanted.packages)) {
    if (!path.includes('node_modules/')) continue;
    const found = installed.packages[path];
    if (found ? found.version !== entry.version : isNeeded(entry)) process.exit(1);
  }
}

main();
