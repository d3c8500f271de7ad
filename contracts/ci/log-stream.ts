import type { OutputStream } from '../host-api.ts';

/** One chunk of a job's log. The wire says `{seq, stream_kind, content, ts}` with `ts` in nanoseconds. */
export interface LogChunk {
  readonly seq: number;
  readonly stream: OutputStream;
  readonly content: string;
  readonly atMs: number;
}

/** In the order of `stream_kind`. */
const streams: readonly OutputStream[] = ['stdout', 'stderr', 'meta'];

/** A comment that keeps the connection open, sent after `heartbeatMs` of silence. */
export const heartbeatFrame = ':\n\n';
export const heartbeatMs = 15_000;
/** The last frame; the server closes after it. */
export const doneFrame = 'event: done\ndata: {}\n\n';

/** The first frame: everything so far, or everything after the id the reader resumes from. It has no id of its own. */
export function historyFrame(chunks: readonly LogChunk[]): string {
  return `event: history\ndata: {"chunks":[${chunks.map(chunkJson).join(',')}]}\n\n`;
}

/** One chunk as it happens. */
export function chunkFrame(chunk: LogChunk): string {
  return `id: ${chunk.seq}\nevent: chunk\ndata: ${chunkJson(chunk)}\n\n`;
}

/** JSON on one line. The time is put together as text, since a double cannot hold its nanoseconds. */
function chunkJson({ seq, stream, content, atMs }: LogChunk): string {
  const kind = streams.indexOf(stream);
  return `{"seq":${seq},"stream_kind":${kind},"content":${JSON.stringify(content)},"ts":${nanoseconds(atMs)}}`;
}

function nanoseconds(ms: number): string {
  const whole = Math.trunc(ms);
  return whole === 0 ? '0' : `${whole}000000`;
}

/** A chunk as read from the wire; null when it is none. A `stream_kind` of the future counts as `meta`. */
export function logChunkOf(value: unknown): LogChunk | null {
  if (typeof value !== 'object' || value === null) return null;
  const { seq, stream_kind: kind, content, ts }: { [name: string]: unknown } = { ...value };
  // Rounded, since a double may hold a little less than the nanoseconds sent.
  if (typeof seq !== 'number' || typeof content !== 'string' || typeof ts !== 'number') return null;
  return { seq, stream: streams[typeof kind === 'number' ? kind : -1] ?? 'meta', content, atMs: Math.round(ts / 1e6) };
}

/**
 * First `seq` to send, from the `Last-Event-ID` header or else the `last_event_id` query parameter: N continues at N+1; absent,
 * negative or unreadable is the whole log.
 */
export function firstSeqToSend(header: string | undefined, query: string | undefined): number {
  const text = (header ?? query ?? '').trim();
  return /^\d{1,15}$/.test(text) ? Number(text) + 1 : 0;
}
