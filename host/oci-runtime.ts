import type { DiskMount } from './container-disk.ts';
import type { CapsuleLayout } from './container-layout.ts';
import { runProgram } from './run-program.ts';

export interface OciRuntime {
  readonly name: 'crun' | 'runc';
  /** As shown to people: `runc 1.1.5`. */
  readonly label: string;
}

/** In order of preference: crun starts faster, where it works at all. */
const runtimeNames = ['crun', 'runc'] as const;

/** The runtimes installed on this machine, preferred first. */
export async function installedRuntimes(): Promise<readonly OciRuntime[]> {
  const found = await Promise.all(runtimeNames.map(async (name) => ({ name, version: await versionOf(name) })));
  return found.flatMap(({ name, version }) => (version === null ? [] : [{ name, label: `${name} ${version}` }]));
}

async function versionOf(name: string): Promise<string | null> {
  try {
    const { stdout } = await runProgram([name, '--version'], { timeoutMs: 10_000 });
    return /version (\S+)/.exec(stdout)?.[1] ?? 'unknown';
  } catch {
    return null;
  }
}

export interface StartOptions {
  readonly layout: CapsuleLayout;
  readonly runtime: OciRuntime;
  readonly agentPath: string;
  readonly disk: DiskMount;
  readonly timeoutMs: number;
}

/** One shell for both programs: starting a program from here costs several times what it costs from a shell. */
const mountAndRun = `
  cd "$1"
  mount -n -i -t overlay -o "$2" overlay "$3"
  shift 3
  exec "$@"`;

const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
  // The newer mount API takes options of at most 255 bytes.
  LIBMOUNT_FORCE_MOUNT2: 'always',
};

/**
 * Mounts the disk, starts the container on it and returns once its init runs. The agent's listening socket is made out here, where the
 * capsule cannot reach it, and inherited by the init as descriptor 3. The runtime's own files are kept in the capsule's run directory,
 * so that removing this directory is all the cleaning they need.
 */
export async function startContainer({ layout, runtime, agentPath, disk, timeoutMs }: StartOptions): Promise<void> {
  const run = ['run', '--preserve-fds', '1', '--detach', '--bundle', layout.bundleDir, '--pid-file', layout.pidFile];
  const listen = [agentPath, 'listen', layout.socketPath, '--'];
  const container = [...listen, runtime.name, '--root', layout.runtimeDir, ...run, layout.capsuleId];
  const argv = ['sh', '-ec', mountAndRun, 'sh', disk.cwd, disk.options, layout.rootDir, ...container];
  await runProgram(argv, { env: environment, timeoutMs });
}
