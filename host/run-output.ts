import { crashPoint } from '@caisson/contracts/crash-point';
import type { GuestOutput } from './guest-link.ts';
import type { RunJournal } from './run-journal.ts';
import { steadyMs } from './steady-clock.ts';

const batchMs = 25;
const batchBytes = 256 * 1024;

/**
 * Carries a command's output into the journal: at most one record per stream change and `batchMs`, the first bytes at once. Bytes
 * are acknowledged to the guest only when they are in the journal, so a host killed in between asks for them again. Beyond
 * `maxOutputBytes` bytes are dropped behind one visible marker, while the command runs on.
 */
export async function journalOutput(
  journal: RunJournal,
  source: { output(): AsyncIterable<GuestOutput>; acknowledge(offset: number): void },
  options: { alreadyBytes: number; isMarked: boolean; onRecord: () => void },
): Promise<void> {
  const room: Room = {
    bytes: Math.max(0, journal.assignment.maxOutputBytes - options.alreadyBytes),
    isMarked: options.isMarked,
  };
  let pending: GuestOutput[] = [];
  let pendingBytes = 0;
  let flushing: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | null = null;
  let lastFlushMs = Number.NEGATIVE_INFINITY;

  function flush(): Promise<void> {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    const batch = pending;
    pending = [];
    pendingBytes = 0;
    lastFlushMs = steadyMs();
    flushing = flushing.then(() => write(batch));
    return flushing;
  }

  async function write(batch: GuestOutput[]): Promise<void> {
    for (const part of joinStreams(batch)) await writePart(journal, part, room);
    const last = batch.at(-1);
    if (last === undefined) return;
    if (room.isMarked) await journal.drop(last.endOffset);
    crashPoint('output.written');
    source.acknowledge(last.endOffset);
    options.onRecord();
  }

  for await (const chunk of source.output()) {
    pending.push(chunk);
    pendingBytes += chunk.bytes.length;
    if (pendingBytes >= batchBytes || steadyMs() - lastFlushMs >= batchMs) await flush();
    else timer ??= setTimeout(() => void flush().catch(() => {}), batchMs);
  }
  await flush();
}

/** Neighbouring chunks of one stream as one; each carries the offset behind its last byte. */
function joinStreams(batch: readonly GuestOutput[]): GuestOutput[] {
  const joined: { stream: GuestOutput['stream']; parts: Uint8Array[]; endOffset: number }[] = [];
  for (const { stream, bytes, endOffset } of batch) {
    const last = joined.at(-1);
    if (last?.stream === stream) {
      last.parts.push(bytes);
      last.endOffset = endOffset;
    } else joined.push({ stream, parts: [bytes], endOffset });
  }
  return joined.map(({ stream, parts, endOffset }) => ({ stream, bytes: Buffer.concat(parts), endOffset }));
}

/** What may still be kept, and whether the log already says that something was not. */
interface Room {
  bytes: number;
  isMarked: boolean;
}

async function writePart(journal: RunJournal, part: GuestOutput, room: Room): Promise<void> {
  const bytes = part.bytes.subarray(0, room.bytes);
  const keptTo = part.endOffset - part.bytes.length + bytes.length;
  room.bytes -= bytes.length;
  if (bytes.length > 0) {
    await journal.append({ kind: 'output', stream: part.stream, bytes }, { guestOffset: keptTo });
    crashPoint('output.journaled');
  }
  if (bytes.length === part.bytes.length || room.isMarked) return;
  room.isMarked = true;
  const limitMib = Math.round(journal.assignment.maxOutputBytes / 2 ** 20);
  const marker = `\n[caisson] output limit of ${limitMib} MiB reached; the rest of this job's output is dropped\n`;
  // With an offset, by which the next host knows that it is there.
  await journal.append({ kind: 'output', stream: 'meta', bytes: Buffer.from(marker) }, { guestOffset: part.endOffset });
  crashPoint('output.marked');
}
