import { fork } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectHost, type RemoteHost } from '@caisson/contracts/host-client';

/** Where a process ends itself, and at which time it comes by. */
export interface CrashAt {
  readonly point: string;
  readonly hit: number;
}

export interface CrashHostSettings {
  readonly dataDir: string;
  readonly socketPath: string;
  /** Shown to every capsule as `/effects`. */
  readonly effectsDir: string;
  /** What renderings run. */
  readonly pipelineDir: string;
  readonly crashAt: CrashAt | null;
  /** Default containers. Virtual machines do not see `effectsDir`: what they are shown is a copy. */
  readonly driver?: 'container' | 'microvm';
}

/** A host in a process of its own. */
export interface CrashHost {
  readonly api: RemoteHost;
  /** Resolves when the process is gone, with the signal that ended it. */
  readonly ended: Promise<NodeJS.Signals | null>;
  isRunning(): boolean;
  arm(crashAt: CrashAt): Promise<void>;
  kill(): Promise<void>;
  /** An orderly end. */
  close(): Promise<void>;
}

const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  // Reading the sources anew would be most of what a start takes.
  NODE_COMPILE_CACHE: join(tmpdir(), 'caisson-test-cache', 'compiled'),
};

/** Starts one; it may be gone already when this resolves. */
export async function startCrashHost(settings: CrashHostSettings): Promise<CrashHost> {
  const child = fork(new URL('crash-host-child.ts', import.meta.url), [JSON.stringify(settings)], {
    execArgv: [],
    env: environment,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const api = connectHost({ kind: 'socket', path: settings.socketPath });
  const ended = once(child, 'exit').then(([, signal]) => {
    api.close();
    return signal as NodeJS.Signals | null;
  });
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  await Promise.race([once(child, 'message'), ended]);
  return {
    api,
    ended,
    isRunning,
    async arm(crashAt) {
      const armed = once(child, 'message');
      if (!child.connected) throw new Error('the host is gone');
      child.send({ arm: crashAt });
      await armed;
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
    async close() {
      if (child.connected) child.send({ close: true });
      await ended;
    },
  };
}
