import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { AppError } from '@caisson/contracts/app-error';

/** The memory of a machine, as its QEMU has it: a private mapping of a file that many began with. */
interface MachineMemory {
  readonly pid: number;
  /** The file it is a mapping of. */
  readonly ramPath: string;
}

/** What the worker is told. Addresses are QEMU's own. */
export interface MemoryTask {
  readonly direction: 'save' | 'load';
  readonly pid: number;
  readonly address: number;
  readonly ramBytes: number;
  /** Pages that are not zero, one behind the other. */
  readonly pagesPath: string;
  /** Where they belong: runs of three numbers, first page, count, and 1 for pages in the file, 0 for pages of zeros. */
  readonly runsPath: string;
}

export type MemoryFiles = Pick<MemoryTask, 'pagesPath' | 'runsPath'>;

/**
 * Writes the pages a stopped machine has changed since it began, on disk for good. Holes stay holes: a page that was never touched is
 * not written, one that became zero is noted without its bytes. Resolves with the size of what was written.
 */
export async function saveMemory(memory: MachineMemory, files: MemoryFiles): Promise<number> {
  return runTask({ direction: 'save', ...(await locate(memory)), ...files });
}

/** Gives pages that were saved to a QEMU that waits for its devices. Resolves with their size. */
export async function loadMemory(memory: MachineMemory, files: MemoryFiles): Promise<number> {
  return runTask({ direction: 'load', ...(await locate(memory)), ...files });
}

/** Where in QEMU the file is mapped; by its number, since QEMU sees it under another name. */
async function locate({ pid, ramPath }: MachineMemory): Promise<Pick<MemoryTask, 'pid' | 'address' | 'ramBytes'>> {
  const { ino, size } = await stat(ramPath);
  for (const line of (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n')) {
    const [, start, end, inode] = /^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ \S+ (\d+)/.exec(line) ?? [];
    const address = Number.parseInt(start ?? '', 16);
    if (Number(inode) === ino && Number.parseInt(end ?? '', 16) - address === size)
      return { pid, address, ramBytes: size };
  }
  throw new AppError('snapshot_failed', 'the memory of the machine cannot be found in its QEMU');
}

/** In a thread of its own: reading and writing another process's memory cannot be done without waiting. */
async function runTask(task: MemoryTask): Promise<number> {
  const worker = new Worker(new URL('./microvm-memory-worker.ts', import.meta.url), { workerData: task });
  try {
    const [bytes] = await once(worker, 'message');
    return Number(bytes);
  } catch (error) {
    throw new AppError('snapshot_failed', `the memory of the machine cannot be ${task.direction}d: ${error}`, {
      cause: error,
    });
  } finally {
    await worker.terminate();
  }
}
