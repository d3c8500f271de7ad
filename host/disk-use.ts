import { readdir, readlink, stat } from 'node:fs/promises';
import type { WritableDisk } from './machine-driver.ts';
import { ProgramError, runProgram } from './run-program.ts';

/** Space and files a capsule's writable layer takes. */
export interface DiskUse {
  readonly bytes: number;
  readonly entries: number;
}

/** `$1` counted twice, in bytes and in files; what vanishes meanwhile is no failure. Behind everything else the machine does. */
const countTree = `
  renice -n 19 $$ >/dev/null
  du -s -x --block-size=1 -- "$1"
  exec du -s -x --inodes -- "$1"`;

/**
 * Measures a writable layer, with the files its processes hold open after deleting them. Null when the tree could not be counted
 * within `timeoutMs`. The tree is read by directory handle and never through a link.
 */
export async function measureDisk(disk: WritableDisk, timeoutMs: number): Promise<DiskUse | null> {
  const [tree, held] = await Promise.all([treeUse(disk.directory, timeoutMs), heldUse(disk)]);
  return tree && { bytes: tree.bytes + held.bytes, entries: tree.entries + held.entries };
}

async function treeUse(directory: string, timeoutMs: number): Promise<DiskUse | null> {
  const { stdout } = await runProgram(['sh', '-c', countTree, 'sh', directory], { timeoutMs }).catch(
    (error: unknown) => {
      if (error instanceof ProgramError) return error;
      throw error;
    },
  );
  const [bytes, entries] = stdout.split('\n').map((line) => Number.parseInt(line, 10));
  return bytes === undefined || entries === undefined || Number.isNaN(bytes + entries) ? null : { bytes, entries };
}

/** Deleted files are seen through `/proc/<pid>/fd`; those that are memory (memfd, /dev/shm) are not on disk. */
async function heldUse(disk: WritableDisk): Promise<DiskUse> {
  const seen = new Map<string, number>();
  for (const pid of await disk.processes()) {
    const names = await readdir(`/proc/${pid}/fd`).catch((): string[] => []);
    for (const name of names) await addDeleted(seen, `/proc/${pid}/fd/${name}`);
  }
  return { bytes: [...seen.values()].reduce((sum, bytes) => sum + bytes, 0), entries: seen.size };
}

async function addDeleted(seen: Map<string, number>, descriptor: string): Promise<void> {
  const target = await readlink(descriptor).catch(() => '');
  if (!target.endsWith(' (deleted)') || /^\/(memfd:|dev\/|SYSV)/.test(target)) return;
  const file = await stat(descriptor).catch(() => null);
  if (file?.isFile() && file.nlink === 0) seen.set(`${file.dev}:${file.ino}`, file.blocks * 512);
}
