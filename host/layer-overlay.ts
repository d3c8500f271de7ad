import { dirname, join, relative } from 'node:path';

/** Most layers one disk may have. Overlayfs takes 500, and this many relative names fit the page it reads options from. */
export const maxStackDepth = 256;

/**
 * How to name a stack to overlayfs: `lowerdir` is relative to `cwd`, the directory the mounting process has to be in. Absolute
 * names of a few dozen layers already overflow the one page (4096 bytes) the kernel takes mount options from.
 */
export function overlayLowers(directories: readonly string[]): { readonly cwd: string; readonly lowerdir: string } {
  const cwd = dirname(dirname(directories[0] ?? '/'));
  return { cwd, lowerdir: directories.map((directory) => escapeOption(relative(cwd, directory))).join(':') };
}

/** Directory of a layer's content below the directory of all layers. */
export function diffDir(root: string, dirName: string): string {
  return join(root, dirName, 'diff');
}

/** Where the same content is as a disk for virtual machines, once one has needed it. */
export function layerDiskPath(directory: string): string {
  return `${directory}.erofs`;
}

/** A path as the value of a mount option. */
export function escapeOption(path: string): string {
  return path.replace(/[\\:,]/g, (char) => `\\${char}`);
}
