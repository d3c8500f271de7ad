import { ProgramError, runProgram } from './run-program.ts';

const longestMs = 24 * 3600_000;

/**
 * Does `work` while no other process holds the lock file. The kernel lets go of it when this process ends in whatever way, so
 * there is no stale lock. Waiting ends when `signal` aborts.
 */
export async function withFileLock<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const release = new AbortController();
  const held = Promise.withResolvers<void>();
  const holding = runProgram(['flock', '--no-fork', path, 'sh', '-c', 'echo held; exec sleep infinity'], {
    signal: AbortSignal.any([signal, release.signal]),
    timeoutMs: longestMs,
    onLine: (line) => line === 'held' && held.resolve(),
  });
  holding.catch((error) => held.reject(error));
  try {
    await held.promise;
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    release.abort();
    await holding.catch((error) => {
      if (!(error instanceof ProgramError)) throw error;
    });
  }
}
