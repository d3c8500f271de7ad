import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, chown } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { findProcess, isAlive, type ProcessRef } from './container-process.ts';
import { qemuSockets } from './qemu-arguments.ts';
import { connectQmp, type QmpClient } from './qmp-client.ts';

/** One QEMU that was started or found. It runs on when this process ends. */
export interface QemuProcess {
  readonly ref: ProcessRef;
  readonly qmp: QmpClient;
  /** Resolves within a second of QEMU's end with what is known of the cause, and aborts `gone`. */
  readonly ended: Promise<string>;
  readonly gone: AbortSignal;
}

interface QemuStart {
  /** The agent's binary, which also builds the walls around QEMU. */
  readonly agentPath: string;
  /** User and group id, used by nobody else. */
  readonly uid: number;
  /** Path of a network namespace to join; null for one of its own without a way out. */
  readonly networkNamespace: string | null;
  readonly rootDir: string;
  /** Belongs to `uid` until QEMU has made its sockets there, then to root. */
  readonly runDir: string;
  /** A file QEMU sees at `/work/ram`; null when its memory is its own. */
  readonly ramPath: string | null;
  /** Files of control groups to join before anything else. */
  readonly groupFiles: readonly string[];
  /** The program and its arguments, as QEMU's own root names them. */
  readonly argv: readonly string[];
  /** Open files it inherits, from descriptor 3 on. */
  readonly files: readonly number[];
}

const greetingTimeoutMs = 20_000;
const keptErrorBytes = 8_192;
const lookEveryMs = 250;

/**
 * Starts QEMU behind its walls: an own user, network, mounts and control group, no capabilities, and a root in which there is nothing
 * but itself. Throws `provision_failed` with QEMU's own words when it does not come up; whoever called removes what is left.
 */
export async function startQemu(start: QemuStart): Promise<QemuProcess> {
  const { runDir, uid } = start;
  await chown(runDir, uid, uid);
  const child = spawnJailed(start);
  const said = keepErrors(child);
  const end = endOfChild(child, said);
  try {
    const ref = child.pid === undefined ? null : await findProcess(child.pid);
    if (ref === null) throw new AppError('provision_failed', await end.ended);
    const qmp = await connectQmp(controlSocket(runDir), { timeoutMs: greetingTimeoutMs, signal: end.gone });
    // From here on nothing QEMU does, even if its guest took it over, can put something else in the place of its sockets.
    await chown(runDir, 0, 0);
    await chmod(runDir, 0o711);
    return { ref, qmp, ...end };
  } catch (error) {
    child.kill('SIGKILL');
    throw new AppError('provision_failed', `QEMU did not come up: ${await end.ended}`, { cause: error });
  }
}

/** Takes up a QEMU that an earlier process started. Throws `guest_lost` when it is dead or does not answer. */
export async function adoptQemu(ref: ProcessRef, runDir: string): Promise<QemuProcess> {
  if (!(await isAlive(ref))) throw new AppError('guest_lost', 'QEMU is dead');
  const qmp = await connectQmp(controlSocket(runDir), { timeoutMs: greetingTimeoutMs });
  const gone = new AbortController();
  const ended = watchStranger(ref, qmp).then((reason) => {
    gone.abort();
    return reason;
  });
  return { ref, qmp, ended, gone: gone.signal };
}

function controlSocket(runDir: string): string {
  return join(runDir, qemuSockets.control);
}

function spawnJailed({ agentPath, uid, networkNamespace, rootDir, runDir, ramPath, ...rest }: QemuStart): ChildProcess {
  const walls = [uid, networkNamespace ?? 'none', rootDir, runDir, ramPath ?? 'none', ...rest.groupFiles].map(String);
  const child = spawn(agentPath, ['jail', ...walls, '--', ...rest.argv], {
    stdio: ['ignore', 'ignore', 'pipe', ...rest.files],
    env: {},
    // Out of the terminal's reach, and out of the host's: a machine outlives it.
    detached: true,
  });
  child.unref();
  return child;
}

/** The last of what QEMU says. Its guest can make it say a lot, and must neither fill the host's memory nor block QEMU. */
function keepErrors(child: ChildProcess): () => string {
  let kept = '';
  child.stderr?.setEncoding('utf8');
  child.stderr?.on('data', (text: string) => {
    kept = (kept + text).slice(-keptErrorBytes);
  });
  if (child.stderr && 'unref' in child.stderr && typeof child.stderr.unref === 'function') child.stderr.unref();
  return () => kept.trim().split('\n').slice(-5).join('; ');
}

function endOfChild(child: ChildProcess, said: () => string): { ended: Promise<string>; gone: AbortSignal } {
  const gone = new AbortController();
  const ended = new Promise<string>((resolve) => {
    const end = (what: string) => {
      gone.abort();
      resolve(said() === '' ? what : `${what}: ${said()}`);
    };
    child.once('error', (error) => end(`QEMU could not be started: ${error.message}`));
    // Its last words are still in the pipe when it is gone; no other process holds the other end.
    child.once('close', (code, signal) =>
      end(signal === null ? `QEMU exited with ${code}` : `QEMU was killed by ${signal}`),
    );
  });
  return { ended, gone: gone.signal };
}

/** Of a process that is not ours we learn the end by its socket; a socket closed alone is none. */
async function watchStranger(ref: ProcessRef, qmp: QmpClient): Promise<string> {
  const reason = await qmp.closed;
  while (await isAlive(ref)) await new Promise((resolve) => setTimeout(resolve, lookEveryMs).unref());
  return `QEMU ended while no host watched its exit (${reason})`;
}
