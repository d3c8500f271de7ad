import { mkdir, mkdtemp, readdir, readFile, readlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { removeTree } from '../host/layer-tree.ts';
import { seedImage } from '../host/test/image-cache.ts';
import { expectNothingLeft } from '../host/test/nothing-left.ts';
import { type Builds, openBuilds } from './builds.ts';
import type { HostNetwork } from './host-network.ts';
import { type Program, type ProgramOptions, startCaisson } from './program.ts';

/** For a program to end in order. */
const patienceMs = 60_000;
const token = `hm_${'e2e'.repeat(14)}x`;

/** A whole installation on a fresh data directory, its programs real processes. The image `minimal` is there already. */
export interface Rig {
  readonly dataDir: string;
  readonly token: string;
  /** Environment of every program of this installation. */
  readonly env: Readonly<Record<string, string>>;
  /** `caisson up`, when it serves. */
  up(words?: readonly string[], options?: Pick<ProgramOptions, 'tree'>): Promise<Up>;
  /**
   * `caisson host`, when it listens: on the socket in the data directory, or, `isApart`, in a directory of its own, or on a network,
   * in a directory of its own as well.
   */
  host(options?: HostOptions): Promise<Host>;
  /** Any other command. */
  start(words: readonly string[], options?: Omit<ProgramOptions, 'env'>): Program;
  /** Ends what still runs and checks that nothing of it is left on the machine. */
  stop(): Promise<void>;
  /** Ends what still runs, checks that nothing of the installation is left on the machine, and removes its directory. */
  end(): Promise<void>;
}

type HostOptions = Pick<ProgramOptions, 'tree'> & { readonly network?: HostNetwork; readonly isApart?: boolean };

export interface Up extends Program {
  readonly url: string;
  readonly builds: Builds;
}

export interface Host extends Program {
  /** For `up --host`. */
  readonly socket: string;
  readonly dataDir: string;
}

export async function startRig(env: Readonly<Record<string, string>> = {}): Promise<Rig> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-e2e-'));
  await mkdir(join(dataDir, 'host'), { mode: 0o711 });
  await seedImage(join(dataDir, 'host'));
  const otherDirs: string[] = [];
  const programs: Program[] = [];
  const rigEnv = {
    CAISSON_DATA_DIR: dataDir,
    CAISSON_PORT: '0',
    CAISSON_BOOTSTRAP_TOKEN: token,
    CAISSON_HOST_TOKEN: token,
    ...env,
  };
  const start: Rig['start'] = (words, options = {}) => {
    const program = startCaisson(words, { env: rigEnv, ...options });
    programs.push(program);
    return program;
  };
  const startHost = async (
    dataDir: string,
    words: readonly string[],
    options: Omit<ProgramOptions, 'env'>,
  ): Promise<Host> => {
    const program = start(['--json', 'host', '--data-dir', dataDir, ...words], options);
    const { socket, address } = await program.event('host');
    return { ...program, dataDir, socket: String(socket ?? address) };
  };
  const stopAll = async () => {
    // The control planes first, so that a host still hears that its jobs were given up.
    const ends: PromiseSettledResult<void>[] = [];
    for (const program of programs.splice(0).toReversed()) ends.push(...(await Promise.allSettled([stop(program)])));
    try {
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
      for (const dir of [dataDir, ...otherDirs]) await expectCleared(dir);
    } catch (error) {
      // Whatever went wrong, the next test has the machine for itself.
      for (const dir of [dataDir, ...otherDirs]) await killProcessesOf(dir);
      throw error;
    }
  };
  return {
    dataDir,
    token,
    env: rigEnv,
    start,
    stop: stopAll,
    async up(words = [], options = {}) {
      const program = start(['--json', 'up', ...words], options);
      const { url } = await program.event('up');
      return { ...program, url: String(url), builds: openBuilds(String(url), token) };
    },
    async host({ network, isApart = network !== undefined, ...options } = {}) {
      if (!isApart) return startHost(dataDir, [], options);
      const own = await mkdtemp(join(tmpdir(), 'caisson-e2e-host-'));
      otherDirs.push(own);
      await mkdir(join(own, 'host'), { mode: 0o711 });
      await seedImage(join(own, 'host'));
      if (network === undefined) return startHost(own, [], options);
      return startHost(own, ['--listen', network.where], { ...options, netns: network.netns });
    },
    async end() {
      await stopAll();
      for (const dir of [dataDir, ...otherDirs]) await removeTree(dir);
    },
  };
}

/** Ends programs in order, one after the other, as Ctrl-C does. */
export async function interrupt(...programs: readonly Program[]): Promise<void> {
  for (const program of programs) {
    program.signal('SIGINT');
    expect(await program.ended).toBe(0);
  }
}

/** A control plane with jobs asks for a second signal to end them. */
async function stop(program: Program): Promise<void> {
  if (program.isOver()) return;
  // A test that was cut short may have left it standing.
  program.signal('SIGCONT');
  program.signal('SIGINT');
  program.said('Ctrl-C ends them now').then(
    () => program.signal('SIGINT'),
    () => {},
  );
  const timer = setTimeout(() => program.signal('SIGKILL'), patienceMs);
  const end = await program.ended.finally(() => clearTimeout(timer));
  expect({ end, stderr: program.stderr() }).toMatchObject({ end: 0 });
}

/** Fails with a list of what an installation that was stopped has left: capsules, processes, runs nobody asks about. */
export async function expectCleared(dataDir: string): Promise<void> {
  await expectNothingLeft(join(dataDir, 'host'));
  expect({ processes: await processesOf(dataDir), runs: await namesIn(join(dataDir, 'host', 'runs')) }).toEqual({
    processes: [],
    runs: [],
  });
}

async function killProcessesOf(directory: string): Promise<void> {
  for (const line of await processesOf(directory)) {
    try {
      process.kill(Number.parseInt(line, 10), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

/** Every process that works in the directory or names it on its command line, this one aside. */
async function processesOf(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ');
      const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '');
      return words.includes(directory) || cwd.startsWith(directory) ? [`${pid} ${words.trim()}`] : [];
    }),
  );
  return found.flat();
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
