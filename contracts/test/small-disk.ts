import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, open, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A file system of its own, so small that a test can fill it. */
export interface SmallDisk {
  /** Where it is mounted. */
  readonly directory: string;
  /** A directory on it, for whoever is to run out of room. */
  readonly dataDir: string;
  /** Fills it until so many bytes are left. */
  fill(leaveBytes?: number): Promise<void>;
  /** Uses up its files until so many are left, while there is space. */
  fillFiles(leaveFiles?: number): Promise<void>;
  /** Removes what filled it. */
  makeRoom(): Promise<void>;
  end(): Promise<void>;
}

interface DiskSize {
  readonly mebibytes: number;
  /** Most files; without it there is no lack of them. */
  readonly files?: number;
}

/** Mounts a tmpfs: unlike others it is full at the byte it says. */
export async function openSmallDisk({ mebibytes, files }: DiskSize): Promise<SmallDisk> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-disk-'));
  const options = [`size=${mebibytes}m`, 'mode=0711', ...(files === undefined ? [] : [`nr_inodes=${files}`])];
  await run('mount', ['-t', 'tmpfs', '-o', options.join(), 'caisson-test', directory]);
  const [dataDir, ballast] = [join(directory, 'data'), join(directory, 'ballast')];
  await mkdir(dataDir);
  return {
    directory,
    dataDir,
    async fill(leaveBytes = 0) {
      await mkdir(ballast, { recursive: true });
      const file = await open(join(ballast, 'bytes'), 'a');
      const bytes = new Uint8Array(2 ** 20);
      try {
        while ((await file.write(bytes).catch(nothingWhenFull)).bytesWritten > 0);
        await file.truncate((await file.stat()).size - leaveBytes);
      } finally {
        await file.close();
      }
    },
    async fillFiles(leaveFiles = 0) {
      await mkdir(ballast, { recursive: true });
      const { ffree } = await statfs(directory);
      for (let index = 0; index < ffree - leaveFiles; index += 1) await writeFile(join(ballast, String(index)), '');
    },
    makeRoom: () => rm(ballast, { recursive: true, force: true }),
    async end() {
      await run('umount', [directory]);
      await rm(directory, { recursive: true });
    },
  };
}

function nothingWhenFull(error: NodeJS.ErrnoException): { bytesWritten: number } {
  if (error.code !== 'ENOSPC') throw error;
  return { bytesWritten: 0 };
}
