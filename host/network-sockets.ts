import { type FileHandle, open } from 'node:fs/promises';

/** The sockets of a network namespace, to be counted when its last process is dead. */
interface SocketCount {
  /** True when no socket of any kind is left. To be asked once. */
  none(): Promise<boolean>;
}

const bufferBytes = 4_096;

/**
 * Opens the counts of the namespace of a process that runs: a file of `/proc` belongs to the namespace it was opened in, and is filled
 * when it is read. Null when the process is gone.
 */
export async function countSockets(pid: number): Promise<SocketCount | null> {
  const names = ['sockstat', 'sockstat6'];
  const opened = await Promise.all(names.map((name) => open(`/proc/${pid}/net/${name}`).catch(() => null)));
  const files = opened.filter((file) => file !== null);
  if (opened[0] === null) {
    await Promise.all(files.map((file) => file.close()));
    return null;
  }
  return {
    async none() {
      const texts = await Promise.all(files.map(readOnce));
      return !/\b(?:inuse|tw|used) [1-9]/.test(texts.join('').replace(/^sockets:.*$/m, ''));
    },
  };
}

async function readOnce(file: FileHandle): Promise<string> {
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bufferBytes), 0, bufferBytes, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}
