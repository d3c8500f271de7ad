import { execFile } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A file system of its own, so small that a test can fill it. */
export interface SmallDisk {
  readonly directory: string;
  fill(): Promise<void>;
  makeRoom(): Promise<void>;
  end(): Promise<void>;
}

export async function openSmallDisk(mebibytes: number): Promise<SmallDisk> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-disk-'));
  const run = promisify(execFile);
  await run('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=0711`, 'caisson-test', directory]);
  const ballast = join(directory, 'ballast');
  return {
    directory,
    async fill() {
      const file = await open(ballast, 'a');
      const bytes = new Uint8Array(2 ** 16);
      while ((await file.write(bytes).catch(() => null)) !== null);
      await file.close();
    },
    makeRoom: () => rm(ballast, { force: true }),
    async end() {
      await run('umount', [directory]);
      await rm(directory, { recursive: true });
    },
  };
}
