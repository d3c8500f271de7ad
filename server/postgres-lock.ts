import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';

/** One supervisor per directory; the kernel gives the lock back when its process is gone, however it ended. */
export interface DirectoryLock {
  release(): void;
}

/**
 * Takes the directory for this process. The lock belongs to the open file, which this process shares with the short-lived
 * `flock` that takes it: Node has no call for it. Throws `database_unavailable` naming the pid that holds it.
 */
export function lockDirectory(dir: string): DirectoryLock {
  const path = join(dir, 'supervisor.lock');
  const fd = openSync(path, 'a', 0o644);
  const taken = spawnSync('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
  if (taken.status === 0) {
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
    return { release: () => closeSync(fd) };
  }
  closeSync(fd);
  if (taken.error) throw new AppError('database_unavailable', `flock does not start: ${taken.error.message}`);
  const owner = readFileSync(path, 'utf8').trim() || 'unknown';
  throw new AppError(
    'database_unavailable',
    `process ${owner} already runs the database in ${dir}; use that one, end it, or choose another data directory`,
  );
}
