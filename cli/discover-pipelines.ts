import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { PipelineIr } from '@caisson/pipeline/ir';
import type { RegistryEnvelope } from '@caisson/pipeline/render/render-workspace';
import { CliError, usageError } from './cli-error.ts';
import { exitCodes } from './exit-codes.ts';

/** How pipeline files are run on this machine. */
interface LocalRender {
  /** Part of every cache key. */
  readonly organization?: string;
  /** Decides ttl cache keys; now, when left out. */
  readonly nowSeconds?: number;
  readonly timeoutMs?: number;
  /** Gets what the pipeline files print, up to a bound. */
  readonly log?: NodeJS.WritableStream;
}

const entry = fileURLToPath(import.meta.resolve('@caisson/pipeline/render/render-main'));
const defaultTimeoutMs = 120_000;
const maxAnswerBytes = 64 * 1024 * 1024;
const maxLogBytes = 1024 * 1024;

/**
 * Every pipeline of the repository in `folder`, rendered. Runs its pipeline files on this machine, in a process of their own.
 * Throws `CliError` `pipeline_invalid` with the author's message, `usage` when there is no such folder.
 */
export async function discoverPipelines(folder: string, options: LocalRender = {}): Promise<RegistryEnvelope> {
  return JSON.parse(await runRenderer(folder, ['--list', '--', resolve(folder)], options));
}

/** The IR of one pipeline; `slug` null for the only one. Runs the pipeline files as `discoverPipelines` does. */
export async function renderLocally(
  folder: string,
  slug: string | null,
  options: LocalRender = {},
): Promise<PipelineIr> {
  return JSON.parse(await runRenderer(folder, ['--', resolve(folder), ...(slug === null ? [] : [slug])], options));
}

async function runRenderer(folder: string, words: readonly string[], options: LocalRender): Promise<string> {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw usageError(`${folder} is not a folder`);
  const settings = [
    ...(options.organization === undefined ? [] : [`--org=${options.organization}`]),
    ...(options.nowSeconds === undefined ? [] : [`--now=${options.nowSeconds}`]),
  ];
  const child = spawn(process.execPath, [entry, '--fd=3', ...settings, ...words], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  const [output, errors, answerStream] = child.stdio.slice(1) as Readable[];
  forward([output, errors], options.log);
  const ended = new Promise<string>((resolved, rejected) => {
    child.once('error', rejected);
    child.once('exit', (code, signal) => resolved(signal ?? `code ${code}`));
  });
  try {
    const answering = readAnswer(answerStream, () => child.kill('SIGKILL'));
    const how = await ended;
    // What a pipeline file leaves running may hold its output open, but not this descriptor: Node hands on the first three only.
    const answer = timedOut ? '' : await answering;
    if (how === 'code 0') return answer;
    throw refuse(
      timedOut
        ? `the pipeline files took more than ${timeoutMs / 1000} s`
        : answer.trim() || `rendering ended with ${how}`,
    );
  } finally {
    clearTimeout(timer);
    for (const stream of child.stdio) stream?.destroy();
  }
}

function refuse(message: string): CliError {
  return new CliError(message, { exitCode: exitCodes.invalidPipeline, code: 'pipeline_invalid' });
}

function readAnswer(stream: Readable | undefined, stop: () => void): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  return new Promise((resolved) => {
    const finish = () => resolved(Buffer.concat(chunks).toString('utf8'));
    stream?.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > maxAnswerBytes) return stop();
      chunks.push(chunk);
    });
    stream?.once('close', finish);
    stream?.once('end', finish);
  });
}

function forward(streams: readonly (Readable | undefined)[], log: NodeJS.WritableStream | undefined): void {
  let sizeBytes = 0;
  for (const stream of streams) {
    stream?.on('data', (chunk: Buffer) => {
      if (sizeBytes < maxLogBytes) log?.write(chunk);
      if (sizeBytes < maxLogBytes && sizeBytes + chunk.length >= maxLogBytes)
        log?.write('\n[the rest of the output is not shown]\n');
      sizeBytes += chunk.length;
    });
  }
}
