import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { realpath } from 'node:fs/promises';
import { createServer } from 'node:net';
import { AppError } from '@caisson/contracts/app-error';
import { isErrno } from './container-errors.ts';

/**
 * Makes this process the only host on `dataDir`: a listening socket in the kernel's abstract namespace, which vanishes with the
 * process however it ends. Throws `runtime_unavailable` when another host has it.
 */
export async function lockDataDir(dataDir: string): Promise<{ release(): Promise<void> }> {
  const name = createHash('sha256')
    .update(await realpath(dataDir))
    .digest('hex');
  const server = createServer((socket) => socket.destroy());
  server.unref();
  server.listen(`\0caisson-host-${name}`);
  try {
    await once(server, 'listening');
  } catch (error) {
    if (!isErrno(error, 'EADDRINUSE')) throw error;
    throw new AppError(
      'runtime_unavailable',
      `another Caisson runs capsules in ${dataDir}; stop it or use another directory`,
    );
  }
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}
