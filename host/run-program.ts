import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';

export interface ProgramOptions {
  /** Killed after this long; default one minute. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  /** The whole environment; without it the host's own is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  /** Written to the program's stdin, which is otherwise empty. What fails to come ends the program, and is thrown. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Gets each line of both streams as it comes. */
  readonly onLine?: (line: string) => void;
}

export interface ProgramResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** How a program ended badly: its exit code (null after a signal), what it wrote, and why it was stopped when we did that. */
export class ProgramError extends Error {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;

  constructor(
    message: string,
    details: ProgramResult & { readonly exitCode: number | null; readonly cause?: unknown },
  ) {
    super(message, { cause: details.cause });
    this.name = 'ProgramError';
    this.exitCode = details.exitCode;
    this.stdout = details.stdout;
    this.stderr = details.stderr;
  }
}

/** Output kept of each stream; what comes later is read and dropped, so that a chatty program never fills the host's memory. */
const maxKeptBytes = 4 * 1024 * 1024;
const defaultTimeoutMs = 60_000;

/**
 * Runs a program of the host to its end, without a shell. It dies with this process. Throws `ProgramError`, whose message holds the
 * last of what the program said, when it cannot be started, exits with anything but 0, or is stopped by `timeoutMs` or `signal`.
 */
export async function runProgram(argv: readonly string[], options: ProgramOptions = {}): Promise<ProgramResult> {
  options.signal?.throwIfAborted();
  const child = startProgram(argv, options);
  const stdout = collect(child.stdout, options.onLine);
  const stderr = collect(child.stderr, options.onLine);
  const ending = ended(child, options);
  const [fed] = await Promise.allSettled([feed(child, options.stdin ?? ''), ending]);
  if (fed.status === 'rejected') throw fed.reason;
  const end = await ending;
  const output = { stdout: stdout(), stderr: stderr() };
  if (end.exitCode !== 0) throw failureOf(argv, end, output);
  return output;
}

/**
 * What a program writes to its stdout, as it is read; the program dies with this process, or when nobody reads on. Throws like
 * `runProgram`, but after the last byte.
 */
export async function* readProgram(argv: readonly string[], options: ProgramOptions = {}): AsyncIterable<Uint8Array> {
  const child = startProgram(argv, options);
  child.stdin.end();
  const stderr = collect(child.stderr, options.onLine);
  const ending = ended(child, options);
  try {
    yield* child.stdout;
    const end = await ending;
    if (end.exitCode !== 0) throw failureOf(argv, end, { stdout: '', stderr: stderr() });
  } finally {
    child.kill('SIGKILL');
  }
}

function startProgram(argv: readonly string[], { cwd, env }: ProgramOptions): ChildProcessWithoutNullStreams {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...argv], {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
  });
  // One that ends without having read everything says why by its exit code.
  child.stdin.on('error', () => {});
  return child;
}

/**
 * Rejects only when the input itself fails. A program that has what it needs ends before its input does; what is left is read all the
 * same, since it may end in a failure.
 */
async function feed(child: ChildProcessWithoutNullStreams, input: NonNullable<ProgramOptions['stdin']>): Promise<void> {
  const { stdin } = child;
  if (typeof input === 'string' || input instanceof Uint8Array) {
    stdin.end(input);
    return;
  }
  const isLost = () => child.signalCode !== null || (child.exitCode !== null && child.exitCode !== 0);
  try {
    for await (const chunk of input) {
      if (isLost()) break;
      if (!stdin.destroyed && !stdin.write(chunk)) await drained(stdin);
    }
    stdin.end();
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    for (const event of ['drain', 'close']) stream.once(event, resolve);
  });
}

function failureOf(
  [program = '']: readonly string[],
  { why, exitCode, cause }: End,
  output: ProgramResult,
): ProgramError {
  return describeFailure(program, why, { ...output, exitCode, cause });
}

/** The error of a program that ended badly, `why` in words after its name without its place, with the last of what it said. */
export function describeFailure(
  program: string,
  why: string,
  details: ConstructorParameters<typeof ProgramError>[1],
): ProgramError {
  const said = tail(details.stderr) || tail(details.stdout);
  return new ProgramError(`${basename(program)} ${why}${said === '' ? '' : `: ${said}`}`, details);
}

interface End {
  readonly exitCode: number | null;
  readonly why: string;
  readonly cause?: unknown;
}

function ended(
  child: ChildProcess,
  { timeoutMs = defaultTimeoutMs, signal }: Pick<ProgramOptions, 'timeoutMs' | 'signal'>,
): Promise<End> {
  return new Promise((resolve) => {
    let stopped: { why: string; cause?: unknown } | undefined;
    const stop = (why: string, cause?: unknown) => {
      stopped ??= { why, cause };
      child.kill('SIGKILL');
    };
    const onAbort = () => stop('was stopped', signal?.reason);
    const timer = setTimeout(() => stop(`took longer than ${timeoutMs} ms`), timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    const finish = (end: End) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      resolve(end);
    };
    child.once('error', (error) =>
      finish({ exitCode: null, why: `could not be started (${error.message})`, cause: error }),
    );
    child.once('close', (code: number | null, killedBy: NodeJS.Signals | null) => {
      if (stopped !== undefined) return finish({ exitCode: null, ...stopped });
      finish({ exitCode: code, why: killedBy === null ? `exited with ${code}` : `was killed by ${killedBy}` });
    });
  });
}

/** Keeps the beginning of an output, up to `maxKeptBytes` and the piece that goes beyond. */
export function keepOutput(): { add(bytes: Uint8Array): void; text(): string } {
  const chunks: Uint8Array[] = [];
  let keptBytes = 0;
  return {
    add(bytes) {
      if (keptBytes >= maxKeptBytes) return;
      chunks.push(bytes);
      keptBytes += bytes.length;
    },
    text: () => Buffer.concat(chunks).toString('utf8'),
  };
}

function collect(stream: NodeJS.ReadableStream, onLine: ((line: string) => void) | undefined): () => string {
  const kept = keepOutput();
  stream.on('data', (chunk: Buffer) => kept.add(chunk));
  if (onLine !== undefined) createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', onLine);
  return kept.text;
}

function tail(text: string): string {
  return text.trim().split('\n').slice(-5).join('\n').slice(-1000);
}
