import { mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { type DebianKit, findKit, type KitOptions, type KitRecipe, prepareKit } from './debian-kit.ts';
import { exists } from './exists.ts';
import { programVersion } from './program-version.ts';
import { keepModules } from './qemu-kit-modules.ts';
import { kitArgv } from './qemu-kit-program.ts';

/**
 * Everything a micro-virtual machine needs that is not ours: QEMU with its libraries and firmware, a guest kernel with its modules, and
 * the programs that make disks. One Debian release for every host, unpacked and never installed: it runs in a root of its own, so
 * neither what is installed here nor another QEMU can get in its way.
 */
export interface QemuKit {
  /** The root directory in which the programs run. */
  readonly rootDir: string;
  readonly qemuVersion: string;
  readonly kernelVersion: string;
  /** The kernel's modules for a machine's first root, in the order in which they have to be loaded. */
  readonly modulePaths: readonly string[];
}

/** Where the programs find a kernel, below the root of the kit. */
export const kitKernelPath = '/boot/vmlinuz';

const recipe: KitRecipe = {
  // The number counts up when a kit is made in another way.
  name: 'trixie-1',
  suite: 'trixie',
  // The last is what the kernel's package wants beside itself, in its smallest form; it is never run.
  packages: [
    ...['qemu-system-x86', 'qemu-utils', 'erofs-utils', 'e2fsprogs', 'xz-utils', 'linux-image-cloud-amd64'],
    'tiny-initramfs',
  ],
  contents: 'QEMU and a guest kernel',
  user: 'micro-virtual machines',
  finish: finishKit,
};

/** The kit, fetched first when it is not here: 76 MB from the Debian archive this machine uses. Throws `runtime_unavailable`. */
export async function prepareQemuKit(options: KitOptions): Promise<QemuKit> {
  return asQemuKit(await prepareKit(recipe, options));
}

/** The kit, or null when it was not fetched yet. */
export async function findQemuKit(kitsDir: string): Promise<QemuKit | null> {
  const kit = await findKit(recipe, kitsDir);
  return kit && asQemuKit(kit);
}

async function asQemuKit({ rootDir, notes }: DebianKit): Promise<QemuKit> {
  const modulesDir = join(rootDir, 'boot/modules');
  const names = (await readdir(modulesDir)).toSorted();
  return {
    rootDir,
    qemuVersion: String(notes.qemuVersion),
    kernelVersion: String(notes.kernelVersion),
    modulePaths: names.map((name) => join(modulesDir, name)),
  };
}

async function finishKit(rootDir: string) {
  await makePlaces(rootDir);
  const kernelVersion = await keepKernel(rootDir);
  await prune(rootDir);
  return { qemuVersion: await programVersion(kitArgv(rootDir, 'bin/qemu-system-x86_64')), kernelVersion };
}

/** Links a merged system has, and places to mount what a machine's QEMU may see of the host. */
async function makePlaces(rootDir: string): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    if (!(await exists(join(rootDir, name)))) await symlink(`usr/${name}`, join(rootDir, name));
  }
  for (const name of ['dev', 'run', 'work']) await mkdir(join(rootDir, name), { recursive: true });
  for (const name of ['null', 'urandom', 'kvm']) {
    await rm(join(rootDir, 'dev', name), { force: true });
    await writeFile(join(rootDir, 'dev', name), '');
  }
}

/** The one kernel, under a name without its version, and the modules a machine needs before it has its disk. */
async function keepKernel(rootDir: string): Promise<string> {
  const names = await readdir(join(rootDir, 'boot'));
  const kernelVersion = names.find((name) => name.startsWith('vmlinuz-'))?.slice('vmlinuz-'.length);
  if (kernelVersion === undefined) throw new AppError('runtime_unavailable', 'the kernel package holds no kernel');
  await rename(join(rootDir, 'boot', `vmlinuz-${kernelVersion}`), join(rootDir, kitKernelPath));
  await keepModules(rootDir, kernelVersion);
  return kernelVersion;
}

/** Half of what comes with the packages is for other machines, or for people. */
async function prune(rootDir: string): Promise<void> {
  const modules = join(rootDir, 'usr/lib/modules');
  const unused = ['var', 'tmp', 'usr/bin/qemu-system-i386', 'usr/share/bash-completion', 'usr/lib/systemd'];
  for (const path of [modules, ...unused.map((name) => join(rootDir, name))])
    await rm(path, { recursive: true, force: true });
}
