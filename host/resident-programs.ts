import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { messageOf } from '@caisson/contracts/app-error';
import { asAppError } from './container-errors.ts';
import { createGate } from './gate.ts';
import { connectGuest } from './guest-channel.ts';
import type { GuestLink } from './guest-link.ts';
import {
  describeFailure,
  keepOutput,
  ProgramError,
  type ProgramOptions,
  type ProgramResult,
  runProgram,
} from './run-program.ts';

/** Runs a short program of the host to its end; as `runProgram`, with a small environment of its own. */
export type RunBriefly = (argv: readonly string[], options?: BriefOptions) => Promise<ProgramResult>;
type BriefOptions = Pick<ProgramOptions, 'timeoutMs' | 'cwd'> & { readonly stdin?: string | Uint8Array };

/** Starts programs on behalf of this process. */
export interface ResidentPrograms {
  readonly run: RunBriefly;
  /** Ends the starter; programs that run are killed. */
  close(): Promise<void>;
}

const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
const defaultTimeoutMs = 60_000;
const startTimeoutMs = 10_000;
/** Fewer than the processes an agent keeps. */
const maxPrograms = 48;

/**
 * Starts a second, small process that starts programs for this one: the agent of capsules, out here. To fork a process with as much
 * memory as this one takes milliseconds, for which its only thread stands still. Programs die with it, and it dies with this process.
 * When it is lost, programs are started from here.
 */
export async function startResidentPrograms(options: {
  readonly agentPath: string;
  /** Where its socket will be; nobody but root may reach it. */
  readonly socketPath: string;
}): Promise<ResidentPrograms> {
  const { agentPath, socketPath } = options;
  // That of a killed predecessor, whose starter may not be gone yet.
  await rm(socketPath, { force: true });
  const serve = [agentPath, 'listen', socketPath, '--', agentPath, 'serve'];
  // A session of its own: Ctrl-C at the terminal is for this process, which still needs programs to end well.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...serve], { stdio: 'ignore', detached: true });
  child.unref();
  const ended = new AbortController();
  child.once('error', (error) => ended.abort(error));
  child.once('exit', () => ended.abort(new Error('it ended at once')));
  const agent = await greet(socketPath, ended.signal).catch((error: unknown) => {
    child.kill('SIGKILL');
    throw asAppError(error, 'runtime_unavailable', 'the process that starts programs for this one does not start');
  });
  const gate = createGate(maxPrograms);
  let isLost = false;
  void agent.closed.then(() => {
    isLost = true;
  });
  return {
    run: (argv, options = {}) =>
      gate(() => (isLost ? runProgram(argv, { ...options, env: environment }) : runThere(agent, argv, options))),
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        const gone = once(child, 'exit');
        child.ref();
        child.kill('SIGKILL');
        await gone;
      }
      agent.close();
      await rm(socketPath, { force: true });
    },
  };
}

/** The socket is there a moment after the start. */
async function greet(socketPath: string, ended: AbortSignal): Promise<GuestLink> {
  const endsAtMs = performance.now() + startTimeoutMs;
  for (;;) {
    ended.throwIfAborted();
    try {
      return await connectGuest(socketPath, { greetingTimeoutMs: startTimeoutMs });
    } catch (error) {
      if (performance.now() > endsAtMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

async function runThere(agent: GuestLink, argv: readonly string[], options: BriefOptions): Promise<ProgramResult> {
  const [program = '', ...words] = argv;
  const { cwd = '/', stdin, timeoutMs = defaultTimeoutMs } = options;
  try {
    const how = { env: environment, cwd, timeoutMs, stdin: stdin !== undefined };
    const process = await agent.exec({ argv: [program, ...words], ...how });
    if (stdin !== undefined) {
      // A program that ends before it has read everything says why by its exit.
      void process.write(Buffer.from(stdin)).then(
        () => process.closeStdin(),
        () => {},
      );
    }
    const said = { stdout: keepOutput(), stderr: keepOutput() };
    for await (const { stream, bytes, endOffset } of process.output()) {
      said[stream].add(bytes);
      process.acknowledge(endOffset);
    }
    const exit = await process.exit;
    process.forget();
    const output = { stdout: said.stdout.text(), stderr: said.stderr.text() };
    if (exit.exitCode === 0 && !exit.timedOut) return output;
    throw describeFailure(program, whyOf(exit, timeoutMs), { ...output, exitCode: exit.signal ? null : exit.exitCode });
  } catch (cause) {
    if (cause instanceof ProgramError) throw cause;
    const why = `could not be started (${messageOf(cause)})`;
    throw describeFailure(program, why, { stdout: '', stderr: '', exitCode: null, cause });
  }
}

function whyOf(exit: { exitCode: number; signal: number | null; timedOut: boolean }, timeoutMs: number): string {
  if (exit.timedOut) return `took longer than ${timeoutMs} ms`;
  return exit.signal === null ? `exited with ${exit.exitCode}` : `was killed by signal ${exit.signal}`;
}
