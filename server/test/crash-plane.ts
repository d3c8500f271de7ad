import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NewBuild } from '../engine/engine.ts';

export interface CrashSettings {
  readonly connectionString: string;
  readonly hostSockets: readonly string[];
  readonly blobDir: string;
  /** Where the process ends itself, and at which time it comes by. */
  readonly crashAt: { readonly point: string; readonly hit: number } | null;
}

/** A control plane in a process of its own. */
export interface CrashPlane {
  /** `onFailure` is called when the build could not be created, as far as the process knows. */
  build(build: NewBuild, onFailure?: () => void): void;
  cancel(buildId: string): void;
  readonly pid: number;
  /** Resolves when the process is gone, with the signal that ended it. */
  readonly ended: Promise<NodeJS.Signals | null>;
  isRunning(): boolean;
  /** It stands still, its connections open, until it is thawed. */
  freeze(): void;
  thaw(): void;
  kill(): Promise<void>;
}

/** As `./caisson` is started, since loading is most of what a start takes: dependencies packed, sources compiled. */
const packedUrl = new URL('../../cli/packed-dependencies.ts', import.meta.url);
const packed = `data:text/javascript,(await import('${packedUrl}')).usePackedDependencies()`;
const environment = { NODE_COMPILE_CACHE: join(tmpdir(), 'caisson-test-cache', 'compiled') };

/** Starts one; it may be gone already when this resolves. */
export async function startPlane(settings: CrashSettings): Promise<CrashPlane> {
  const child = fork(new URL('crash-child.ts', import.meta.url), [JSON.stringify(settings)], {
    execArgv: ['--import', packed],
    env: environment,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit').then(([, signal]) => signal as NodeJS.Signals | null);
  await Promise.race([once(child, 'message'), ended]);
  return {
    build(build, onFailure = () => {}) {
      child.on('message', (said: { readonly failed?: string }) => {
        if (said.failed === build.message) onFailure();
      });
      send(child, { build });
    },
    cancel: (cancel) => send(child, { cancel }),
    pid: child.pid ?? 0,
    ended,
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    isRunning: () => child.exitCode === null && child.signalCode === null,
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** A process that is gone, or goes meanwhile, hears nothing. */
function send(child: ChildProcess, message: object): void {
  if (child.connected) child.send(message, () => {});
}
