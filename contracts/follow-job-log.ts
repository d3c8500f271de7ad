import { AppError, hasCode } from './app-error.ts';
import { type LogChunk, logChunkOf } from './ci/log-stream.ts';
import { type SseEvent, sseParser } from './sse-parser.ts';

export interface FollowJobLog {
  /** Where the server is, without a slash at the end. */
  readonly baseUrl: string;
  readonly jobId: string;
  /** A log token, or how to get a fresh one: asked before every connection. */
  readonly token: string | (() => Promise<string>);
  /** `seq` of the last chunk known; the log goes on behind it. */
  readonly lastEventId?: number;
  readonly signal: AbortSignal;
  readonly fetch?: typeof fetch;
  /** How long to go on trying when nothing arrives, 60 s unless given. */
  readonly patienceMs?: number;
}

const firstPauseMs = 100;
const longestPauseMs = 5_000;
/** The server says something every 15 s; a connection silent for so long is dead without knowing it. */
const longestSilenceMs = 40_000;

/** What is known across connections. */
interface Progress {
  seq: number | null;
  isDone: boolean;
  /** Connections since a chunk arrived last. */
  failures: number;
  aliveAtMs: number;
}

/**
 * Every chunk of a job's log in order, each once, until the job is over. A connection that breaks is taken up where it ended. Ends
 * quietly when `signal` aborts. Throws `log_stream_unauthorized` or `log_stream_forbidden` as the server says, and
 * `service_unavailable` when nothing has arrived for `patienceMs`.
 */
export async function* followJobLog(input: FollowJobLog): AsyncGenerator<LogChunk> {
  const progress: Progress = {
    seq: input.lastEventId ?? null,
    isDone: false,
    failures: 0,
    aliveAtMs: performance.now(),
  };
  while (!input.signal.aborted) {
    try {
      yield* readConnection(input, progress);
      if (progress.isDone) return;
    } catch (error) {
      if (input.signal.aborted) return;
      if (isFinal(error, input)) throw error;
      if (performance.now() - progress.aliveAtMs > (input.patienceMs ?? 60_000)) {
        throw new AppError('service_unavailable', 'the log stream cannot be reached', { cause: error });
      }
    }
    await pause(progress.failures, input.signal);
    progress.failures += 1;
  }
}

/** A token that is fetched anew for each connection may have run out; any other refusal stays. */
function isFinal(error: unknown, input: FollowJobLog): boolean {
  if (hasCode(error, 'log_stream_unauthorized')) return typeof input.token === 'string';
  if (error instanceof SyntaxError) return true;
  return hasCode(error, 'log_stream_forbidden') || hasCode(error, 'not_found');
}

/** One connection, to its end. */
async function* readConnection(input: FollowJobLog, progress: Progress): AsyncGenerator<LogChunk> {
  const body = await connect(input, progress);
  const parse = sseParser();
  const decoder = new TextDecoder();
  for await (const bytes of bytesOf(body)) {
    progress.aliveAtMs = performance.now();
    for (const event of parse(decoder.decode(bytes, { stream: true }))) {
      for (const chunk of chunksOf(event)) {
        if (progress.seq !== null && chunk.seq <= progress.seq) continue;
        progress.seq = chunk.seq;
        progress.failures = 0;
        yield chunk;
      }
      if (event.event === 'done') {
        progress.isDone = true;
        return;
      }
    }
  }
}

async function connect(input: FollowJobLog, progress: Progress): Promise<ReadableStream<Uint8Array>> {
  const token = typeof input.token === 'string' ? input.token : await input.token();
  const url = `${input.baseUrl}/v0/jobs/${encodeURIComponent(input.jobId)}/logs?token=${encodeURIComponent(token)}`;
  const response = await (input.fetch ?? fetch)(url, {
    headers: {
      accept: 'text/event-stream',
      ...(progress.seq === null ? {} : { 'last-event-id': String(progress.seq) }),
    },
    signal: input.signal,
  });
  if (response.ok && response.body) return response.body;
  await response.body?.cancel();
  throw refusalOf(response.status);
}

function refusalOf(status: number): AppError {
  if (status === 401) return new AppError('log_stream_unauthorized', 'the log token is not valid, or no longer');
  if (status === 403) return new AppError('log_stream_forbidden', 'the log token does not cover this job');
  if (status === 404) return new AppError('not_found', 'the server has no log streams at this address');
  return new AppError('service_unavailable', `the log stream answered ${status}`);
}

function chunksOf(event: SseEvent): readonly LogChunk[] {
  if (event.event !== 'history' && event.event !== 'chunk') return [];
  const parsed: { chunks?: unknown } = JSON.parse(event.data) ?? {};
  const chunks = event.event === 'chunk' ? [parsed] : parsed.chunks;
  if (!Array.isArray(chunks)) return [];
  return chunks.map(logChunkOf).filter((chunk) => chunk !== null);
}

/** Not every browser can iterate a stream. Leaving the loop early closes the connection. */
async function* bytesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const watchdog = setTimeout(() => void reader.cancel().catch(() => undefined), longestSilenceMs);
      const { done, value } = await reader.read().finally(() => clearTimeout(watchdog));
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Longer with every failure, with some chance in it so that many readers do not come back at once. */
async function pause(failures: number, signal: AbortSignal): Promise<void> {
  const limitMs = Math.min(firstPauseMs * 2 ** failures, longestPauseMs);
  const pauseMs = limitMs / 2 + (Math.random() * limitMs) / 2;
  await new Promise<void>((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(end, pauseMs);
    function end(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    }
    signal.addEventListener('abort', end);
  });
}
