import { spawn } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';

/** One supervisor per directory; the kernel gives the lock back when its process is gone, however it ended. */
export interface DirectoryLock {
  release(): void;
}

/** Long enough for a process that was just killed to be gone. */
const patienceSeconds = 1;

/**
 * Takes the directory for this process. The lock belongs to the open file, which this process shares with the short-lived
 * `flock` that takes it: Node has no call for it. Throws `database_unavailable` naming the pid that holds it.
 */
export async function lockDirectory(dir: string): Promise<DirectoryLock> {
  const path = join(dir, 'supervisor.lock');
  const fd = openSync(path, 'a', 0o644);
  try {
    if (!(await takeLock(fd))) throw busy(dir, readFileSync(path, 'utf8').trim() || 'unknown');
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
    return { release: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function takeLock(fd: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['--timeout', `${patienceSeconds}`, '3'], {
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    child.on('error', (error) =>
      reject(new AppError('database_unavailable', `flock does not start: ${error.message}`)),
    );
    child.on('close', (code) => resolve(code === 0));
  });
}

function busy(dir: string, owner: string): AppError {
  return new AppError(
    'database_unavailable',
    `process ${owner} already runs the database in ${dir}; use that one, end it, or choose another data directory`,
  );
}
