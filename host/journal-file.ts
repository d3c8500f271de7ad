import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { asAppError } from './container-errors.ts';
import { isDiskFull } from './disk-full.ts';

const lookForRoomMs = 500;

/** A file that only grows, by whole appends. */
export interface JournalFile {
  /** Bytes of complete appends. */
  readonly size: number;
  /** Does one change after the other, so that appends never interleave and `size` always ends at one. */
  inTurn<T>(change: () => Promise<T>): Promise<T>;
  /** Within a turn. On a full disk waits for room, or throws `disk_full` at once. */
  append(bytes: Uint8Array, options: { readonly waitsForRoom: boolean }): Promise<void>;
  read(position: number, length: number): Promise<Buffer>;
  /** Does `work` again for as long as the disk is full. */
  waitingForRoom(work: () => Promise<void>): Promise<void>;
  /** From now on a full disk is an error at once. */
  stopWaiting(): void;
  close(): Promise<void>;
}

/** Goes on behind the first `size` bytes of an open file. */
export function openJournalFile(file: FileHandle, size: number): JournalFile {
  let tail: Promise<unknown> = Promise.resolve();
  const impatient = new AbortController();

  async function write(bytes: Uint8Array): Promise<void> {
    const { bytesWritten } = await file.write(bytes, 0, bytes.length, size);
    if (bytesWritten < bytes.length) throw new AppError('disk_full', 'the disk of the host is full');
  }

  async function waitingForRoom(work: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isDiskFull(error) || impatient.signal.aborted) throw error;
        await delay(lookForRoomMs, undefined, { signal: impatient.signal }).catch(() => {});
      }
    }
  }

  return {
    get size() {
      return size;
    },
    inTurn(change) {
      const changed = tail.then(change);
      tail = changed.catch(() => {});
      return changed;
    },
    async append(bytes, { waitsForRoom }) {
      const written = waitsForRoom ? waitingForRoom(() => write(bytes)) : write(bytes);
      await written.catch(async (error) => {
        // A part of a longer record behind a shorter one would be taken for a record.
        await file.truncate(size);
        throw asAppError(error, 'io_error', 'the journal could not be written');
      });
      size += bytes.length;
    },
    async read(position, length) {
      const buffer = Buffer.allocUnsafe(length);
      const { bytesRead } = await file.read(buffer, 0, length, position);
      return buffer.subarray(0, bytesRead);
    },
    waitingForRoom,
    stopWaiting: () => impatient.abort(),
    async close() {
      impatient.abort();
      await tail;
      await file.close();
    },
  };
}
