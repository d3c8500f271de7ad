import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { exists } from './exists.ts';
import { debianSourceLines } from './image-apt-sources.ts';
import { withFileLock } from './image-lock.ts';
import { aptProgress } from './image-progress.ts';
import { isRecord } from './qemu-json.ts';
import { keepModules } from './qemu-kit-modules.ts';
import { kitArgv } from './qemu-kit-program.ts';
import { runProgram } from './run-program.ts';

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

/** Counts up when a kit is made in another way. */
const recipe = 1;
const suite = 'trixie';
const packages = ['qemu-system-x86', 'qemu-utils', 'erofs-utils', 'e2fsprogs', 'xz-utils', 'linux-image-cloud-amd64'];
/** What the kernel's package wants beside itself, in its smallest form; it is never run. */
const companions = ['tiny-initramfs'];
const buildTimeoutMs = 20 * 60_000;

/** Where the programs find a kernel, below the root of the kit. */
export const kitKernelPath = '/boot/vmlinuz';

interface KitOptions {
  /** Kits are kept below this directory. */
  readonly kitsDir: string;
  /** Where this machine's package manager says what archives it uses. Default `/etc/apt`. */
  readonly aptDir?: string;
  readonly progress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** The kit, fetched first when it is not here: about 100 MB from the Debian archive this machine uses. Throws `runtime_unavailable`. */
export async function prepareQemuKit(options: KitOptions): Promise<QemuKit> {
  const known = await findQemuKit(options.kitsDir);
  if (known !== null) return known;
  await mkdir(options.kitsDir, { recursive: true });
  const signal = options.signal ?? new AbortController().signal;
  return withFileLock(join(options.kitsDir, 'lock'), signal, async () => {
    const made = await findQemuKit(options.kitsDir);
    return made ?? makeKit({ ...options, signal });
  });
}

/** The kit, or null when it was not fetched yet. */
export async function findQemuKit(kitsDir: string): Promise<QemuKit | null> {
  const kitDir = join(kitsDir, kitName);
  const text = await readFile(join(kitDir, 'kit.json'), 'utf8').catch(() => null);
  if (text === null) return null;
  const versions: unknown = JSON.parse(text);
  if (!isRecord(versions)) return null;
  const rootDir = join(kitDir, 'root');
  const modulesDir = join(rootDir, 'boot/modules');
  const names = (await readdir(modulesDir)).toSorted();
  return {
    rootDir,
    qemuVersion: String(versions.qemuVersion),
    kernelVersion: String(versions.kernelVersion),
    modulePaths: names.map((name) => join(modulesDir, name)),
  };
}

const kitName = `${suite}-${recipe}`;

async function makeKit({ kitsDir, aptDir = '/etc/apt', progress = () => {}, signal }: KitOptions): Promise<QemuKit> {
  const draftDir = join(kitsDir, `${kitName}.new`);
  const rootDir = join(draftDir, 'root');
  await rm(draftDir, { recursive: true, force: true });
  await mkdir(draftDir);
  await extractPackages({ rootDir, aptDir, progress, signal });
  await makePlaces(rootDir);
  const kernelVersion = await keepKernel(rootDir);
  await prune(rootDir);
  const { stdout } = await runProgram([...kitArgv(rootDir, 'bin/qemu-system-x86_64'), '--version']);
  const qemuVersion = /version (\S+)/.exec(stdout)?.[1] ?? 'unknown';
  await writeFile(join(draftDir, 'kit.json'), `${JSON.stringify({ qemuVersion, kernelVersion })}\n`);
  await rename(draftDir, join(kitsDir, kitName));
  const kit = await findQemuKit(kitsDir);
  if (kit === null) throw new AppError('runtime_unavailable', `the kit in ${kitsDir} is incomplete; remove it`);
  return kit;
}

interface Extraction {
  readonly rootDir: string;
  readonly aptDir: string;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal | undefined;
}

async function extractPackages({ rootDir, aptDir, progress, signal }: Extraction): Promise<void> {
  const lines = await debianSourceLines(aptDir, suite);
  if (lines.length === 0) {
    throw new AppError(
      'runtime_unavailable',
      'micro-virtual machines need QEMU and a kernel from Debian packages, and this machine’s apt sources name no Debian archive',
    );
  }
  const report = aptProgress({ title: 'fetching QEMU and a guest kernel', progress });
  const argv = [
    ...['unshare', '--pid', '--fork', '--kill-child', '--'],
    ...['mmdebstrap', '--mode=root', '--variant=extract', '--format=directory', '--verbose', '--skip=check/qemu'],
    ...['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*'].map((path) => `--dpkgopt=path-exclude=${path}`),
    `--include=${[...packages, ...companions].join(',')}`,
    ...[suite, rootDir, ...lines],
  ];
  try {
    await runProgram(argv, { timeoutMs: buildTimeoutMs, onLine: report.onLine, ...(signal ? { signal } : {}) });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const advice = 'see whether "apt-get update" works here and mmdebstrap is installed';
    throw new AppError('runtime_unavailable', `QEMU and a guest kernel could not be fetched (${advice}): ${reason}`, {
      cause,
    });
  } finally {
    report.stop();
  }
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
