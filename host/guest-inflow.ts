import type { AppError } from '@caisson/contracts/app-error';
import { protocolError } from './guest-answers.ts';
import { guestLimits } from './guest-frames.ts';

/** Bytes on their way to the agent, as fast as it gives credit. */
interface GuestInflow {
  /** Resolves when all bytes are handed over, in the order of the calls; rejects when the inflow is stopped. */
  write(bytes: Uint8Array): Promise<void>;
  /** Runs after the writes before it. */
  afterwards(action: () => void): void;
  /** More room at the agent; `guest_protocol` when that is more than its buffer holds. */
  grant(units: number): void;
  /** The other end takes no more: what waits, and every later write, is rejected. */
  stop(error: AppError): void;
}

/** `send` gets pieces that each fit one frame. */
export function createGuestInflow(creditBytes: number, send: (piece: Uint8Array) => void): GuestInflow {
  let credit = creditBytes;
  let stopped: AppError | null = null;
  let wake: (() => void) | null = null;
  let tail: Promise<void> = Promise.resolve();

  const rouse = (): void => {
    wake?.();
    wake = null;
  };
  const writeNow = async (bytes: Uint8Array): Promise<void> => {
    for (let at = 0; at < bytes.length || stopped !== null; ) {
      if (stopped !== null) throw stopped;
      if (credit === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      const piece = bytes.subarray(at, at + Math.min(credit, guestLimits.dataChunkBytes));
      credit -= piece.length;
      at += piece.length;
      send(piece);
    }
  };
  const enqueue = (action: () => Promise<void> | void): Promise<void> => {
    const run = tail.then(action);
    tail = run.catch(() => undefined);
    return run;
  };

  return {
    write: (bytes) => enqueue(() => writeNow(bytes)),
    afterwards(action) {
      void enqueue(() => {
        if (stopped === null) action();
      });
    },
    grant(units) {
      credit += units;
      if (credit > guestLimits.inboundBytes) throw protocolError('it gives more credit than its buffer holds');
      rouse();
    },
    stop(error) {
      stopped ??= error;
      rouse();
    },
  };
}
