import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { kitArgv } from './qemu-kit-program.ts';
import { runProgram } from './run-program.ts';

/** What the kernel has not built in and a machine needs to find its disks, its network and its first random numbers. */
const wantedModules = ['virtio_mmio', 'virtio_blk', 'virtio_net', 'virtio_rng', 'erofs', 'overlay'];

/**
 * Unpacks the modules a machine's first root needs to `boot/modules/NN-name.ko` below the kit's root, numbered in the order in which
 * they have to be loaded: what a module depends on comes before it.
 */
export async function keepModules(rootDir: string, kernelVersion: string): Promise<void> {
  const below = `usr/lib/modules/${kernelVersion}/kernel`;
  const packed = new Map<string, string>();
  for (const path of await readdir(join(rootDir, below), { recursive: true }))
    if (path.endsWith('.ko.xz')) packed.set(moduleName(path), join(rootDir, below, path));
  const unpacked = new Map<string, string>();
  const unpack = async (name: string): Promise<void> => {
    const path = packed.get(name);
    if (unpacked.has(name)) return;
    if (path === undefined) throw new AppError('runtime_unavailable', `the guest kernel has no module ${name}`);
    await runProgram([...kitArgv(rootDir, 'bin/xz'), '--decompress', path]);
    const plain = path.slice(0, -'.xz'.length);
    for (const needed of dependenciesOf(await readFile(plain))) await unpack(needed);
    unpacked.set(name, plain);
  };
  for (const name of wantedModules) await unpack(name);
  const targetDir = join(rootDir, 'boot/modules');
  await mkdir(targetDir);
  for (const [index, [name, path]] of [...unpacked].entries())
    await rename(path, join(targetDir, `${String(index).padStart(2, '0')}-${name}.ko`));
}

/** The kernel takes `-` and `_` in names of modules for the same. */
function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');
}

/** Names in the `depends=` line every module carries. */
function dependenciesOf(module: Buffer): readonly string[] {
  const found = /\0depends=([^\0]*)\0/.exec(module.toString('latin1'))?.[1] ?? '';
  return found
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName);
}
