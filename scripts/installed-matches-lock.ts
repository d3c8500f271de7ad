import { readFileSync } from 'node:fs';

/** The part of a lock file that matters here: what is to be installed where, in which version. */
interface LockFile {
  readonly packages: Readonly<
    Record<string, { version?: string; link?: boolean; optional?: boolean; devOptional?: boolean }>
  >;
}

function readLock(path: string): LockFile | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
}

/** Exits 0 when npm's own record of what it installed holds every package of the lock file in the right version. */
function main(): void {
  const wanted = readLock('package-lock.json');
  const installed = readLock('node_modules/.package-lock.json');
  if (!wanted || !installed) process.exit(1);
  for (const [path, entry] of Object.entries(wanted.packages)) {
    if (!path.includes('node_modules/')) continue;
    const found = installed.packages[path];
    // Optional packages are those of other platforms.
    const missing = found ? found.version !== entry.version : !(entry.optional || entry.devOptional);
    if (missing) process.exit(1);
  }
}

main();
