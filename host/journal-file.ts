import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { asAppError } from './container-errors.ts';
import { isDiskFull } from './disk-full.ts';

const lookForRoomMs = 500;

/** A file that only grows, by whole appends. */
interface JournalFile {
  /** Bytes of complete appends. */
  readonly size: number;
  /** Does one change after the other, so that appends never interleave and `size` always ends at one. */
  inTurn<T>(change: () => Promise<T>): Promise<T>;
  /** The same, but throws `disk_full` instead of standing behind an append that waits for room. */
  inTurnAtOnce(change: () => Promise<void>): Promise<void>;
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
  let isWaiting = false;
  /** How to refuse the changes that stand in line and do not wait for room. */
  const hasty = new Set<(error: AppError) => void>();
  const impatient = new AbortController();

  async function write(bytes: Uint8Array): Promise<void> {
    const { bytesWritten } = await file.write(bytes, 0, bytes.length, size);
    if (bytesWritten < bytes.length) throw full();
  }

  async function writeWaiting(bytes: Uint8Array): Promise<void> {
    await write(bytes).catch(async (error) => {
      if (!isDiskFull(error)) throw error;
      isWaiting = true;
      for (const refuse of hasty) refuse(full());
      hasty.clear();
      await waitingForRoom(() => write(bytes)).finally(() => {
        isWaiting = false;
      });
    });
  }

  function inTurn<T>(change: () => Promise<T>): Promise<T> {
    const changed = tail.then(change);
    tail = changed.catch(() => {});
    return changed;
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
    inTurn,
    inTurnAtOnce(change) {
      if (isWaiting) return Promise.reject(full());
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      hasty.add(reject);
      // One that was refused is not done later either.
      inTurn(async () => (hasty.delete(reject) ? change() : undefined)).then(resolve, reject);
      return promise;
    },
    async append(bytes, { waitsForRoom }) {
      const written = waitsForRoom ? writeWaiting(bytes) : write(bytes);
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

function full(): AppError {
  return new AppError('disk_full', 'the disk of the host is full');
}
