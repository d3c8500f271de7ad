import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AgentVariant, buildAgent } from '../../host/guest-binary.ts';
import { connectGuest } from '../../host/guest-channel.ts';
import type { ExecSpec, GuestExit, GuestLink, GuestOutput, GuestProcess } from '../../host/guest-link.ts';

/** An agent that runs as a plain process on this machine, without any sandbox. */
export interface RunningAgent {
  readonly socketPath: string;
  /** A directory of its own, removed at the end. */
  readonly directory: string;
  readonly pid: number;
  connect(): Promise<GuestLink>;
  /** What the agent wrote to its standard error: sanitizers report there. */
  readonly complaints: () => string;
  readonly isAlive: () => boolean;
  /** Resident memory in KiB. */
  residentKib(): Promise<number>;
  stop(): Promise<void>;
}

export interface AgentOptions {
  readonly variant?: AgentVariant;
  /** Words put before `caisson-agent serve`, as a runtime would stand there. */
  readonly wrapper?: readonly string[];
}

/** Starts `listen`, which opens the socket and becomes `serve`; resolves when it accepts connections. */
export async function startAgent(options: AgentOptions = {}): Promise<RunningAgent> {
  const agent = await buildAgent(options.variant === undefined ? {} : { variant: options.variant });
  const directory = await mkdtemp(join(tmpdir(), 'caisson-guest-'));
  const socketPath = join(directory, 'agent.sock');
  const child = spawn(agent, ['listen', socketPath, '--', ...(options.wrapper ?? []), agent, 'serve'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, ASAN_OPTIONS: 'detect_leaks=0', UBSAN_OPTIONS: 'print_stacktrace=1' },
  });
  let complaints = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  await listening(socketPath, child);
  const links: GuestLink[] = [];
  return {
    socketPath,
    directory,
    pid: child.pid ?? -1,
    async connect() {
      const link = await connectGuest(socketPath);
      links.push(link);
      return link;
    },
    complaints: () => complaints,
    isAlive: () => child.exitCode === null && child.signalCode === null,
    residentKib: () => residentKib(child.pid ?? -1),
    async stop() {
      for (const link of links) link.close();
      await end(child);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A connection is the proof that the socket is there; the agent takes the next one in its place. */
async function listening(socketPath: string, child: ChildProcess): Promise<void> {
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('the agent did not start');
    const socket = createConnection(socketPath);
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** Resident memory of a process in KiB, as the kernel counts it. */
export async function residentKib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN);
}

/** An exec request with what tests do not care about filled in. */
export function command(argv: ExecSpec['argv'], rest: Partial<ExecSpec> = {}): ExecSpec {
  return { argv, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, cwd: '/', ...rest };
}

/** A shell command line as an exec request. */
export function shell(line: string, rest: Partial<ExecSpec> = {}): ExecSpec {
  return command(['/bin/sh', '-c', line], rest);
}

export interface Finished {
  readonly exit: GuestExit;
  readonly stdout: string;
  readonly stderr: string;
  readonly endOffset: number;
}

/** Reads and acknowledges everything until the exit. */
export async function finish(guest: GuestProcess): Promise<Finished> {
  const chunks = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  let endOffset = 0;
  for await (const output of guest.output()) {
    chunks[output.stream].push(output.bytes);
    endOffset = output.endOffset;
    guest.acknowledge(endOffset);
  }
  const text = (list: Uint8Array[]): string => Buffer.concat(list).toString('latin1');
  return { exit: await guest.exit, stdout: text(chunks.stdout), stderr: text(chunks.stderr), endOffset };
}

/** Exec, and everything until its end. */
export async function runToEnd(link: GuestLink, spec: ExecSpec): Promise<Finished> {
  return finish(await link.exec(spec));
}

/** Reads until the text of both streams together contains `needle`; the same output may be read on afterwards. */
export async function readUntil(
  output: AsyncIterable<GuestOutput>,
  needle: string,
): Promise<{ text: string; endOffset: number }> {
  const iterator = output[Symbol.asyncIterator]();
  let text = '';
  for (;;) {
    const next = await iterator.next();
    if (next.done === true) throw new Error(`the output ended without "${needle}": ${text}`);
    text += Buffer.from(next.value.bytes).toString('latin1');
    if (text.includes(needle)) return { text, endOffset: next.value.endOffset };
  }
}
