import { type FileHandle, mkdir, open, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CancelReason, RunAssignment, RunEvent, RunResult } from '@caisson/contracts/host-api';
import { decodeRecords, encodeRecord } from '@caisson/contracts/record-codec';
import { asAppError } from './container-errors.ts';
import { openJournalFile } from './journal-file.ts';
import { readBootId } from './layer-record.ts';
import { writeAtomically } from './write-atomically.ts';

/** One line of a run's history. `guestOffset` is where the guest's output was read up to. */
interface JournalRecord extends JournalPlace {
  readonly seq: number;
  readonly atMs: number;
  readonly event: RunEvent;
}

/** What the next host needs to go on behind a record: with `started` the guest's process and when that was by the steady clock. */
export interface JournalPlace {
  readonly processId?: number;
  readonly steadyMs?: number;
  /** With `output` of the command: the offset just behind these bytes. */
  readonly guestOffset?: number;
}

/** What a host writes down for its successor and tells nobody. */
type RunNote =
  /** The command is started next: who finds no capsule after this does not know that it was not. */
  | { readonly kind: 'beginning' }
  /** The command is told to end next. */
  | { readonly kind: 'canceling'; readonly reason: CancelReason }
  /** How the run ends, whatever becomes of its capsule from here on. */
  | { readonly kind: 'ending'; readonly result: RunResult };

/** What the notes say together. */
interface Noted {
  readonly isBegun: boolean;
  readonly cancelReason: CancelReason | null;
  readonly result: RunResult | null;
}

/**
 * The durable history of one run: its assignment and every message, append-only, so that a host killed at any moment knows after a
 * restart what was done and what the control plane may not have heard. A torn tail is cut off
 * when it is opened. While the disk is full, whoever writes waits for room.
 */
export interface RunJournal {
  readonly directory: string;
  readonly assignment: RunAssignment;
  readonly lastSeq: number;
  /** Its final message is there; nothing follows. */
  readonly isFinished: boolean;
  readonly noted: Noted;
  /** Bytes of complete records. */
  readonly size: number;
  /** Up to where the guest's output was let go without a record. */
  readonly droppedTo: number;
  /** Appends one record and returns its number. */
  append(event: RunEvent, place?: JournalPlace): Promise<number>;
  /** Writes it down, or throws `disk_full` at once. */
  note(note: RunNote): Promise<void>;
  /** Records from byte `position` on, about `maxBytes` of them, and the position behind the last. */
  read(position: number, maxBytes: number): Promise<{ records: JournalRecord[]; position: number }>;
  /** Remembers that the guest's output up to this offset is not wanted and leaves no record. */
  drop(guestOffset: number): Promise<void>;
  /** From now on a full disk is a failure, `disk_full`, instead of a wait. */
  stopWaiting(): void;
  close(): Promise<void>;
  /** Forgets the run. */
  remove(): Promise<void>;
}

/** Begins the history of a new run; it appears under its lease id only when the assignment is complete. Throws `disk_full` at once. */
export async function createJournal(runsDir: string, assignment: RunAssignment): Promise<RunJournal> {
  const directory = join(runsDir, assignment.leaseId);
  const temporary = join(runsDir, `.tmp-${assignment.leaseId}`);
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await writeFile(join(temporary, 'assignment.json'), JSON.stringify(assignment));
    await writeFile(join(temporary, 'messages'), '');
    await writeFile(join(temporary, 'boot'), await readBootId());
    crashPoint('assignment.written');
    await rename(temporary, directory);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw asAppError(error, 'provision_failed', 'the assignment could not be written down');
  }
  crashPoint('assignment.taken');
  return openJournal(runsDir, assignment.leaseId);
}

/**
 * Takes up the history of a run; throws when it is not readable. That of an earlier boot of the machine is not: a power cut may have
 * taken any part of it, and of what it speaks of.
 */
export async function openJournal(runsDir: string, leaseId: string): Promise<RunJournal> {
  const directory = join(runsDir, leaseId);
  const bootId = await readBootId();
  // An earlier version did not write it down.
  if ((await readFile(join(directory, 'boot'), 'utf8').catch(() => bootId)) !== bootId)
    throw new Error(`${directory} was written before the machine started anew`);
  const assignment = JSON.parse(await readFile(join(directory, 'assignment.json'), 'utf8')) as RunAssignment;
  const path = join(directory, 'messages');
  const bytes = await readFile(path);
  const { records, notes, used } = decode(bytes);
  // An earlier version made no note of the beginning.
  const isBegun = records.some(({ event }) => event.kind === 'started');
  if (used < bytes.length) await truncate(path, used);
  const last = records.at(-1);
  const droppedTo = Number(await readFile(join(directory, 'dropped'), 'utf8').catch(() => '0'));
  const start = { size: used, seq: last?.seq ?? 0, isFinished: last?.event.kind === 'finished', droppedTo };
  return makeJournal(
    { directory, assignment, file: await open(path, 'r+') },
    { ...start, noted: notes.reduce(withNote, { isBegun, cancelReason: null, result: null }) },
  );
}

function withNote(before: Noted, note: RunNote): Noted {
  switch (note.kind) {
    case 'beginning':
      return { ...before, isBegun: true };
    case 'canceling':
      return { ...before, cancelReason: note.reason };
    case 'ending':
      return { ...before, result: note.result };
  }
}

type JournalState = Pick<RunJournal, 'size' | 'isFinished' | 'noted' | 'droppedTo'> & {
  readonly seq: number;
};

interface JournalFiles {
  readonly directory: string;
  readonly assignment: RunAssignment;
  readonly file: FileHandle;
}

function makeJournal({ directory, assignment, file }: JournalFiles, start: JournalState): RunJournal {
  let { seq, isFinished, noted, droppedTo } = start;
  const lines = openJournalFile(file, start.size);
  return {
    directory,
    assignment,
    get lastSeq() {
      return seq;
    },
    get isFinished() {
      return isFinished;
    },
    get noted() {
      return noted;
    },
    get size() {
      return lines.size;
    },
    get droppedTo() {
      return droppedTo;
    },
    append: (event, place = {}) =>
      lines.inTurn(async () => {
        await lines.append(encode({ seq: seq + 1, atMs: Date.now(), event, ...place }), { waitsForRoom: true });
        seq += 1;
        isFinished = event.kind === 'finished';
        return seq;
      }),
    note: (note) =>
      lines.inTurnAtOnce(async () => {
        await lines.append(encodeRecord({ note }, new Uint8Array(0)), { waitsForRoom: false });
        noted = withNote(noted, note);
      }),
    async read(position, maxBytes) {
      const rest = lines.size - position;
      for (let wanted = Math.min(rest, maxBytes); wanted > 0; wanted = Math.min(rest, wanted * 2)) {
        const { records, used } = decode(await lines.read(position, wanted));
        if (used > 0) return { records, position: position + used };
        if (wanted === rest) throw new Error(`the record at ${position} of ${directory} is not readable`);
      }
      return { records: [], position };
    },
    async drop(guestOffset) {
      await lines.waitingForRoom(() => writeAtomically(join(directory, 'dropped'), String(guestOffset)));
      droppedTo = guestOffset;
    },
    stopWaiting: lines.stopWaiting,
    close: lines.close,
    async remove() {
      await lines.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function encode({ event, ...rest }: JournalRecord): Uint8Array {
  if (event.kind !== 'output') return encodeRecord({ ...rest, event }, new Uint8Array(0));
  return encodeRecord({ ...rest, event: { kind: event.kind, stream: event.stream } }, event.bytes);
}

function decode(bytes: Uint8Array): { records: JournalRecord[]; notes: RunNote[]; used: number } {
  const records: JournalRecord[] = [];
  const notes: RunNote[] = [];
  const decoded = decodeRecords(bytes);
  for (const { header, payload } of decoded.records) {
    const line = header as JournalRecord | { readonly note: RunNote };
    if ('note' in line) notes.push(line.note);
    else records.push(withBytes(line, payload));
  }
  return { records, notes, used: decoded.used };
}

function withBytes(record: JournalRecord, bytes: Uint8Array): JournalRecord {
  return record.event.kind === 'output' ? { ...record, event: { ...record.event, bytes } } : record;
}
