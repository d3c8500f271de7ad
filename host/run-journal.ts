import { type FileHandle, mkdir, open, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { RunAssignment, RunEvent } from '@caisson/contracts/host-api';
import { decodeRecords, encodeRecord } from '@caisson/contracts/record-codec';
import { writeAtomically } from './layer-record.ts';

/** One line of a run's history. `guestOffset` is where the guest's output was read up to. */
export interface JournalRecord {
  readonly seq: number;
  readonly atMs: number;
  readonly event: RunEvent;
  /** For `started`: the guest's process; for `output` of the command: the offset just behind these bytes. */
  readonly processId?: number;
  readonly guestOffset?: number;
}

/**
 * The durable history of one run: its assignment and every message, append-only, so that a host killed at any moment knows after a
 * restart what was done and what the control plane may not have heard. A torn tail is cut off
 * when it is opened.
 */
export interface RunJournal {
  readonly directory: string;
  readonly assignment: RunAssignment;
  readonly lastSeq: number;
  /** Its final message is there; nothing follows. */
  readonly isFinished: boolean;
  /** Bytes of complete records. */
  readonly size: number;
  /** Up to where the guest's output was let go without a record. */
  readonly droppedTo: number;
  /** Appends one record and returns its number. */
  append(event: RunEvent, place?: { processId?: number; guestOffset?: number }): Promise<number>;
  /** Records from byte `position` on, about `maxBytes` of them, and the position behind the last. */
  read(position: number, maxBytes: number): Promise<{ records: JournalRecord[]; position: number }>;
  /** Remembers that the guest's output up to this offset is not wanted and leaves no record. */
  drop(guestOffset: number): Promise<void>;
  close(): Promise<void>;
  /** Forgets the run. */
  remove(): Promise<void>;
}

/** Begins the history of a new run; it appears under its lease id only when the assignment is complete. */
export async function createJournal(runsDir: string, assignment: RunAssignment): Promise<RunJournal> {
  const directory = join(runsDir, assignment.leaseId);
  const temporary = join(runsDir, `.tmp-${assignment.leaseId}`);
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  await writeFile(join(temporary, 'assignment.json'), JSON.stringify(assignment));
  await writeFile(join(temporary, 'messages'), '');
  await rename(temporary, directory);
  return openJournal(runsDir, assignment.leaseId);
}

/** Takes up the history of a run; throws when it is not readable. */
export async function openJournal(runsDir: string, leaseId: string): Promise<RunJournal> {
  const directory = join(runsDir, leaseId);
  const assignment = JSON.parse(await readFile(join(directory, 'assignment.json'), 'utf8')) as RunAssignment;
  const path = join(directory, 'messages');
  const bytes = await readFile(path);
  const { records, used } = decode(bytes);
  if (used < bytes.length) await truncate(path, used);
  const last = records.at(-1);
  const droppedTo = Number(await readFile(join(directory, 'dropped'), 'utf8').catch(() => '0'));
  const start = { size: used, seq: last?.seq ?? 0, isFinished: last?.event.kind === 'finished', droppedTo };
  return makeJournal({ directory, assignment, file: await open(path, 'r+') }, start);
}

interface JournalFiles {
  readonly directory: string;
  readonly assignment: RunAssignment;
  readonly file: FileHandle;
}

function makeJournal(
  { directory, assignment, file }: JournalFiles,
  start: { size: number; seq: number; isFinished: boolean; droppedTo: number },
): RunJournal {
  let { size, seq, isFinished, droppedTo } = start;
  // Appends follow each other, so that records never interleave and `size` always ends at a record.
  let tail: Promise<unknown> = Promise.resolve();
  return {
    directory,
    assignment,
    get lastSeq() {
      return seq;
    },
    get isFinished() {
      return isFinished;
    },
    get size() {
      return size;
    },
    get droppedTo() {
      return droppedTo;
    },
    append(event, place = {}) {
      const append = tail.then(async () => {
        const bytes = encode({ seq: seq + 1, atMs: Date.now(), event, ...place });
        const { bytesWritten } = await file.write(bytes, 0, bytes.length, size);
        if (bytesWritten < bytes.length) throw new AppError('disk_full', 'the disk of the host is full');
        size += bytes.length;
        seq += 1;
        isFinished = event.kind === 'finished';
        return seq;
      });
      tail = append.catch(() => {});
      return append;
    },
    async read(position, maxBytes) {
      const rest = size - position;
      for (let wanted = Math.min(rest, maxBytes); wanted > 0; wanted = Math.min(rest, wanted * 2)) {
        const { records, used } = decode(await readAt(file, position, wanted));
        if (used > 0) return { records, position: position + used };
        if (wanted === rest) throw new Error(`the record at ${position} of ${directory} is not readable`);
      }
      return { records: [], position };
    },
    async drop(guestOffset) {
      await writeAtomically(join(directory, 'dropped'), String(guestOffset));
      droppedTo = guestOffset;
    },
    async close() {
      await tail;
      await file.close();
    },
    async remove() {
      await tail;
      await file.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  const { bytesRead } = await file.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}

function encode({ event, ...rest }: JournalRecord): Uint8Array {
  if (event.kind !== 'output') return encodeRecord({ ...rest, event }, new Uint8Array(0));
  return encodeRecord({ ...rest, event: { kind: event.kind, stream: event.stream } }, event.bytes);
}

function decode(bytes: Uint8Array): { records: JournalRecord[]; used: number } {
  const { records, used } = decodeRecords(bytes);
  return { records: records.map(({ header, payload }) => withBytes(header as JournalRecord, payload)), used };
}

function withBytes(record: JournalRecord, bytes: Uint8Array): JournalRecord {
  return record.event.kind === 'output' ? { ...record, event: { ...record.event, bytes } } : record;
}
