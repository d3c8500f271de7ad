import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { repositoryDir } from '../cli/installation.ts';

const node = join(repositoryDir, 'node_modules/.bin/node');
/** Where the launcher has Node keep compiled sources; reading them anew would be most of what a start takes. */
const compileCacheDir = join(repositoryDir, 'node_modules/.caisson/compile-cache');

/** A command line that runs beside the test. */
export interface Program {
  readonly pid: number;
  /** What it has written so far. */
  stdout(): string;
  stderr(): string;
  /** The first line of stdout that is JSON with this `kind`; rejects with all that was written when the program ends before. */
  event(kind: string): Promise<Record<string, unknown>>;
  /** Resolves as soon as `text` stands in stdout or stderr. */
  said(text: string): Promise<void>;
  signal(name: 'SIGINT' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void;
  isOver(): boolean;
  /** The exit code, or the signal that ended it; after all output. */
  readonly ended: Promise<number | string>;
}

export interface ProgramOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Another version of the whole repository. */
  readonly tree?: string;
  /** In this network namespace. */
  readonly netns?: string;
  /** Through the script at the root instead of its node right away. */
  readonly launcher?: boolean;
}

/** Starts `caisson` with these words. */
export function startCaisson(
  words: readonly string[],
  { env, cwd = repositoryDir, launcher, netns, tree = repositoryDir }: ProgramOptions,
): Program {
  // `ip netns exec` would hide the control groups.
  const enter = netns === undefined ? [] : ['nsenter', `--net=/run/netns/${netns}`];
  const [command = node, ...first] = [
    ...enter,
    ...(launcher ? [join(repositoryDir, 'caisson')] : [node, join(tree, 'cli', 'main.ts')]),
  ];
  const child = spawn(command, [...first, ...words], {
    cwd,
    env: {
      ...{ PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1', NODE_COMPILE_CACHE: compileCacheDir },
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return watchProgram(child, words.join(' '));
}

function watchProgram(child: ChildProcess, name: string): Program {
  const text = { stdout: '', stderr: '' };
  const looks = new Set<() => void>();
  const closed = once(child, 'close');
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (part: string) => {
      text[stream] += part;
      for (const look of [...looks]) look();
    });
  }
  // Whoever outlives a killed program may hold its output open.
  const end = Promise.race([closed, once(child, 'exit').then((ends) => (ends[1] ? ends : closed))]);
  const ended = end.then(([code, signal]) => (code ?? signal) as number | string);
  const until = <T>(find: () => T | undefined, what: string): Promise<T> =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = find();
        if (found === undefined) return;
        looks.delete(look);
        resolve(found);
      };
      looks.add(look);
      look();
      void ended.then((end) => {
        reject(new Error(`caisson ${name} ended with ${end} without ${what}:\n${text.stdout}${text.stderr}`));
      });
    });
  return {
    pid: child.pid ?? 0,
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    event: (kind) => until(() => jsonLines(text.stdout).find((line) => line.kind === kind), `an event ${kind}`),
    said: (wanted) =>
      until(() => (text.stdout.includes(wanted) || text.stderr.includes(wanted) ? true : undefined), wanted).then(
        () => {},
      ),
    isOver: () => child.exitCode !== null || child.signalCode !== null,
    signal: (signal) => void child.kill(signal),
    ended,
  };
}

/** The complete lines that are JSON objects. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .slice(0, -1)
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}
