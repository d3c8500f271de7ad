import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../contracts/app-error.ts';
import type { Capsules } from './capsules.ts';
import { isInstalled, runToEnd } from './program.ts';

/** podman on the rootfs of the capsules, with all of its state in directories of its own. */
interface Podman {
  /** `podman run --rm` of a program to its end; returns what it printed. */
  run(name: string, argv: readonly string[]): Promise<string>;
  /** A container that waits for `exec`. */
  start(name: string): Promise<void>;
  exec(name: string, argv: readonly string[]): Promise<string>;
  end(): Promise<void>;
}

/** Either podman, proven by a container that ran, or why its baselines are skipped. */
export type PodmanOrWhy =
  | { readonly podman: Podman; readonly why: null }
  | { readonly podman: null; readonly why: string };

/** Its locks, at one place whatever its root is. */
const locksPath = '/dev/shm/libpod_lock';
const cgroupsDir = '/sys/fs/cgroup';

/** Tries one container first: that podman is installed does not say that it runs on this machine. */
export async function openPodman({ imageDir }: Capsules): Promise<PodmanOrWhy> {
  if (!isInstalled('podman')) return skipped('podman is not installed; as root, the bench installs it');
  const stateDir = await mkdtemp(join(tmpdir(), 'caisson-bench-podman-'));
  const podman = await makePodman(stateDir, imageDir);
  try {
    await podman.run('probe', ['/bin/true']);
    return { podman, why: null };
  } catch (error) {
    await podman.end();
    return skipped(`podman runs no container here: ${messageOf(error)}`);
  }
}

function skipped(reason: string): PodmanOrWhy {
  return { podman: null, why: `The baseline with podman is SKIPPED: ${reason}.` };
}

async function makePodman(stateDir: string, imageDir: string): Promise<Podman> {
  const hadLocks = existsSync(locksPath);
  const cgroupParent = `caisson-bench-podman-${process.pid}`;
  const directories = [
    '--root',
    join(stateDir, 'root'),
    '--runroot',
    join(stateDir, 'run'),
    '--tmpdir',
    join(stateDir, 'tmp'),
  ];
  // Without these it wants systemd, an overlay on top of an overlay and more open files than a container may be allowed.
  const how = [
    '--storage-driver',
    'vfs',
    '--runtime',
    'runc',
    '--cgroup-manager',
    'cgroupfs',
    '--events-backend',
    'none',
  ];
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=4096:4096', '--network', 'none'];
  const container = [...limits, '--cgroup-parent', `/${cgroupParent}`, '--rootfs', imageDir];
  const call = (argv: readonly string[]) => runToEnd(['podman', ...directories, ...how, ...argv]);
  return {
    run: (name, argv) => call(['run', '--rm', '--name', name, ...container, ...argv]),
    async start(name) {
      await call(['run', '--detach', '--name', name, ...container, '/bin/sleep', 'infinity']);
    },
    exec: (name, argv) => call(['exec', name, ...argv]),
    async end() {
      await removeContainers(call);
      await unmountBelow(stateDir);
      await rm(stateDir, { recursive: true, force: true, maxRetries: 10 });
      await removeCgroups(cgroupParent);
      if (!hadLocks) await rm(locksPath, { force: true });
    },
  };
}

/** What one call leaves, since a container was just ending by itself, the next one takes. */
async function removeContainers(call: (argv: readonly string[]) => Promise<string>): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt++) {
    await call(['rm', '--all', '--force', '--time', '0']).catch(() => {});
    if ((await call(['ps', '--all', '--quiet']).catch(() => '')) === '') return;
  }
}

async function unmountBelow(directory: string): Promise<void> {
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
  for (const path of mounts.filter((mount) => mount.startsWith(`${directory}/`)).toReversed()) {
    await runToEnd(['umount', '--lazy', path]).catch(() => {});
  }
}

/** Of every hierarchy; the kernel lets only empty ones go. */
async function removeCgroups(name: string): Promise<void> {
  const hierarchies = await readdir(cgroupsDir);
  for (const top of [cgroupsDir, ...hierarchies.map((hierarchy) => join(cgroupsDir, hierarchy))]) {
    await removeCgroup(join(top, name));
  }
}

async function removeCgroup(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  await rmdir(path).catch(() => {});
}
