import { statfs } from 'node:fs/promises';

/** Less than this is too little for new work: 4 GiB, or a twenty-fifth of a small disk. Twice what running jobs have to leave free. */
const leastRoom = { bytes: 4 * 2 ** 30, share: 1 / 25 };
const leastFilesShare = 1 / 50;

interface DiskRoom {
  readonly freeBytes: number;
  /** How much more would have to be free until new work is taken; 0 when there is enough. */
  readonly shortBytes: number;
  /** Why no new work is taken, for people; null when there is room. */
  readonly lack: string | null;
}

/** Whether the file system of a directory has room for new work. */
export async function diskRoom(directory: string): Promise<DiskRoom> {
  const { bavail, bsize, blocks, files, ffree } = await statfs(directory);
  const freeBytes = bavail * bsize;
  const shortBytes = Math.max(0, Math.min(leastRoom.bytes, blocks * bsize * leastRoom.share) - freeBytes);
  // Some file systems make files as they are needed and count none.
  const isShortOfFiles = files > 0 && ffree < files * leastFilesShare;
  const lack =
    shortBytes > 0
      ? `its disk has only ${Math.floor(freeBytes / 2 ** 20)} MiB left`
      : isShortOfFiles
        ? `its disk has room for only ${ffree} more files`
        : null;
  return { freeBytes, shortBytes, lack };
}
