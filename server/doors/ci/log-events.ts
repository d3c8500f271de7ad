import { chunkFrame, doneFrame, heartbeatFrame, historyFrame, type LogChunk } from '@caisson/contracts/ci/log-stream';
import { decodeOutput } from '@caisson/contracts/ci/log-text';
import type { Engine } from '../../engine/engine.ts';
import type { Database } from '../../store/database.ts';
import { databaseTrouble } from '../../store/database-trouble.ts';
import { hasJobEnded, type LogRow, logStreams, readLastSeq, readLogPage, readLogTails } from './log-rows.ts';
import { shareReads } from './share-reads.ts';
import { makeWakeUp } from './wake-up.ts';

interface LogEventsDeps {
  readonly db: Database;
  readonly engine: Pick<Engine, 'onJobChange'>;
  readonly reads: LogReads;
}

/** What the readers of one job ask for again and again, mostly the same at the same time: a wake-up reaches all of them. */
export interface LogReads {
  page(jobId: string, fromSeq: number): Promise<readonly LogRow[]>;
  hasEnded(jobId: string): Promise<boolean>;
}

export function makeLogReads(db: Database): LogReads {
  const pages = shareReads((key) => {
    const [jobId = '', fromSeq] = key.split(' ');
    return readLogPage(db, jobId, Number(fromSeq));
  });
  return {
    page: (jobId, fromSeq) => pages(`${jobId} ${fromSeq}`),
    hasEnded: shareReads((jobId) => hasJobEnded(db, jobId)),
  };
}

interface LogEventsInput {
  readonly jobId: string;
  /** Number of the first output to send; 0 sends everything. */
  readonly fromSeq: number;
  /** Ends the stream without `done`, so that the reader comes back. */
  readonly signal: AbortSignal;
  /** Silence after which a comment is sent. */
  readonly heartbeatMs: number;
  /** How often the tables are looked at when nothing wakes the stream. */
  readonly recheckMs: number;
  /** Bytes of output the `history` frame may hold; what is beyond follows as `chunk`. */
  readonly historyBytes: number;
}

/** A stream's place: what comes next, and per output stream the bytes of a character that is not complete yet. */
interface Place {
  nextSeq: number;
  lastAtMs: number;
  isAtEnd: boolean;
  readonly rests: Map<LogChunk['stream'], Uint8Array>;
}

/**
 * The server-sent events of one job's output: `history`, then a `chunk` each, then `done` as soon as the job is over. Reads the
 * tables page by page and only as fast as it is consumed; a wake-up merely makes it look sooner.
 */
export async function* logEvents(deps: LogEventsDeps, input: LogEventsInput): AsyncGenerator<string> {
  const wakeUp = makeWakeUp((wake) => deps.engine.onJobChange(input.jobId, wake), input.signal);
  try {
    const place = await startAt(deps.db, input);
    yield await readHistory(deps.reads, input, place);
    let sentAtMs = performance.now();
    while (!input.signal.aborted) {
      try {
        for await (const frame of newFrames(deps, input, place)) {
          yield frame;
          sentAtMs = performance.now();
        }
      } catch (error) {
        // A database that is away just now is a pause: the place is still the right one when it is back.
        if (databaseTrouble(error) === null) throw error;
      }
      if (place.isAtEnd) return;
      const remainingMs = Math.max(0, sentAtMs + input.heartbeatMs - performance.now());
      await wakeUp.wait(Math.min(input.recheckMs, remainingMs));
      if (performance.now() - sentAtMs >= input.heartbeatMs) {
        yield heartbeatFrame;
        sentAtMs = performance.now();
      }
    }
  } finally {
    wakeUp.close();
  }
}

async function startAt(db: Database, { jobId, fromSeq }: LogEventsInput): Promise<Place> {
  const place: Place = { nextSeq: fromSeq, lastAtMs: 0, isAtEnd: false, rests: new Map() };
  if (fromSeq > 0) {
    for (const { stream, tail } of await readLogTails(db, jobId, fromSeq)) {
      place.rests.set(stream, decodeOutput(new Uint8Array(), tail).rest);
    }
  }
  return place;
}

async function readHistory(reads: LogReads, input: LogEventsInput, place: Place): Promise<string> {
  const chunks: LogChunk[] = [];
  let sizeBytes = 0;
  while (!input.signal.aborted) {
    const rows = await reads.page(input.jobId, place.nextSeq);
    for (const row of rows) {
      sizeBytes += row.content.length;
      if (chunks.length > 0 && sizeBytes > input.historyBytes) return historyFrame(chunks);
      chunks.push(chunkOf(row, place));
    }
    if (rows.length === 0) break;
  }
  return historyFrame(chunks);
}

/** What there is by now; `done`, too, when that is all there will be. */
async function* newFrames({ db, reads }: LogEventsDeps, input: LogEventsInput, place: Place): AsyncGenerator<string> {
  const hasEnded = await reads.hasEnded(input.jobId);
  while (!input.signal.aborted) {
    const rows = await reads.page(input.jobId, place.nextSeq);
    for (const row of rows) yield chunkFrame(chunkOf(row, place));
    if (rows.length === 0) break;
  }
  if (!hasEnded || input.signal.aborted) return;
  const frames = await lastFrames(db, input, place);
  place.isAtEnd = true;
  yield* frames;
}

/** The text of a row; moves the place behind it. */
function chunkOf({ seq, stream, content: bytes, atMs }: LogRow, place: Place): LogChunk {
  const { content, rest } = decodeOutput(place.rests.get(stream) ?? new Uint8Array(), bytes);
  place.rests.set(stream, rest);
  place.nextSeq = seq + 1;
  place.lastAtMs = atMs;
  return { seq, stream, content, atMs };
}

/**
 * A character the output broke off in is shown under a number that no output has, unless the reader came back behind it; then the
 * stream is done.
 */
async function lastFrames(db: Database, { jobId, fromSeq }: LogEventsInput, place: Place): Promise<string[]> {
  const broken = logStreams.flatMap((stream) => {
    const rest = place.rests.get(stream) ?? new Uint8Array();
    return rest.length > 0 ? [{ stream, content: new TextDecoder().decode(rest) }] : [];
  });
  if (broken.length === 0) return [doneFrame];
  const firstSeq = (await readLastSeq(db, jobId)) + 1;
  const chunks = broken.map((rest, index) => ({ ...rest, seq: firstSeq + index, atMs: place.lastAtMs }));
  return [...chunks.filter(({ seq }) => seq >= fromSeq).map(chunkFrame), doneFrame];
}
