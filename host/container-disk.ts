import { chown, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { asAppError } from './container-errors.ts';
import type { CapsuleLayout } from './container-layout.ts';
import { isDiskFull } from './disk-full.ts';
import { exists } from './exists.ts';
import { idMap } from './id-map.ts';
import { escapeOption, overlayLowers } from './layer-overlay.ts';
import { removeTree } from './layer-tree.ts';
import type { RunBriefly } from './resident-programs.ts';

/** The kernel reads mount options from one page. */
const maxMountOptionBytes = 4095;

/** Makes the directories of a capsule's disk, owned by the capsule's root. */
export async function makeDiskDirs(layout: CapsuleLayout): Promise<void> {
  await Promise.all([mkdir(layout.upperDir, { mode: 0o755 }), mkdir(layout.workDir, { mode: 0o700 })]);
  await chown(layout.upperDir, idMap.baseId, idMap.baseId);
}

/** How to mount a capsule's disk: by `options`, in which every name is relative to `cwd`. */
export interface DiskMount {
  readonly cwd: string;
  readonly options: string;
}

/**
 * The overlay of a capsule's own writable layer above `lowerDirs`, top first. Throws `provision_failed` when the names of the layers
 * do not fit the kernel's limit.
 */
export function diskMount(layout: CapsuleLayout, lowerDirs: readonly string[]): DiskMount {
  const { cwd, lowerdir } = overlayLowers(lowerDirs);
  const named = (path: string) => escapeOption(relative(cwd, path));
  const options = [
    `lowerdir=${lowerdir}`,
    `upperdir=${named(layout.upperDir)}`,
    `workdir=${named(layout.workDir)}`,
    // fsync inside costs nothing (a package manager calls it for every file) and unmounting does not wait for the disk. A killed
    // process loses nothing by it; whoever keeps the layer beyond a power loss syncs it when sealing.
    'volatile',
    // A directory of a lower layer can be renamed.
    'redirect_dir=on',
    'index=off',
    'metacopy=off',
  ].join(',');
  if (Buffer.byteLength(options) > maxMountOptionBytes) {
    throw new AppError('provision_failed', `${lowerDirs.length} layers are more than one disk can have`);
  }
  return { cwd, options };
}

/** Unmounts everything at or below `directory`, deepest first. Nothing mounted there is fine. */
export async function unmountBelow(directory: string, run: RunBriefly): Promise<void> {
  const targets = (await mountsBelow(directory)).toReversed();
  if (targets.length === 0) return;
  await run(['umount', '-n', '--', ...targets], { timeoutMs: 60_000 }).catch((error: unknown) => {
    throw asAppError(error, 'provision_failed', 'the disk could not be unmounted');
  });
}

/** Mount points at or below a directory, in the order they were mounted. */
export async function mountsBelow(directory: string): Promise<readonly string[]> {
  const mountinfo = await readFile('/proc/self/mountinfo', 'utf8');
  return mountinfo
    .split('\n')
    .map((line) => unescapeMountPath(line.split(' ')[4] ?? ''))
    .filter((path) => path === directory || path.startsWith(`${directory}/`));
}

function unescapeMountPath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/**
 * The lowest layer of every disk: empty places for what is mounted inside, so that none of them has to be made in the capsule's writable
 * layer. Returns its directory; made once per data directory.
 */
export async function prepareSkeleton(dataDir: string): Promise<string> {
  const directory = join(dataDir, 'skeleton-1');
  if (await exists(directory)) return directory;
  const draft = `${directory}.new`;
  await removeTree(draft);
  await makeMountPoints(draft);
  crashPoint('skeleton.made');
  await rename(draft, directory);
  return directory;
}

/** Root of every vessel until it is activated: the same places, and one for the disk. Returns its directory. */
export async function prepareBlankRoot(runDir: string): Promise<string> {
  const directory = join(runDir, 'blank-root');
  await makeMountPoints(directory);
  await makeOwned(join(directory, 'disk'));
  return directory;
}

async function makeMountPoints(root: string): Promise<void> {
  for (const path of ['.', 'proc', 'sys', 'dev', 'etc', '.caisson']) await makeOwned(join(root, path));
  for (const path of ['etc/resolv.conf', 'etc/hosts', 'etc/hostname', '.caisson/agent']) {
    await writeFile(join(root, path), '');
    await chown(join(root, path), idMap.baseId, idMap.baseId);
  }
}

async function makeOwned(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await chown(directory, idMap.baseId, idMap.baseId);
}

/** Copies the agent into the data directory: a rebuild must not change the program of capsules that run. Returns the copy's path. */
export async function keepAgent(dataDir: string, agentPath: string, digest: string): Promise<string> {
  const path = join(dataDir, 'agents', digest);
  await mkdir(dirname(path), { recursive: true });
  try {
    await copyFile(agentPath, `${path}.new`);
    crashPoint('agent.copied');
    await rename(`${path}.new`, path);
  } catch (error) {
    await rm(`${path}.new`, { force: true });
    // The one that is there is the same; on a full disk there is no room for another.
    if (!isDiskFull(error) || !(await exists(path))) throw error;
  }
  return path;
}
