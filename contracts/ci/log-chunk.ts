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

/** A chunk as read from the wire; null when it is none. A `stream_kind` of the future counts as `meta`. */
export function logChunkOf(value: unknown): LogChunk | null {
  if (typeof value !== 'object' || value === null) return null;
  const { seq, stream_kind: kind, content, ts }: { [name: string]: unknown } = { ...value };
  if (typeof seq !== 'number' || typeof content !== 'string' || typeof ts !== 'number') return null;
  return { seq, stream: streams[typeof kind === 'number' ? kind : -1] ?? 'meta', content, atMs: Math.trunc(ts / 1e6) };
}
