import type { AppError } from '@caisson/contracts/app-error';
import { protocolError } from './guest-answers.ts';
import { agentFrame, type GuestFrame, hostFrame } from './guest-frames.ts';
import type { GuestWire } from './guest-wire.ts';

/** What one request does with the frames that come back for it. Each may throw `guest_protocol`. */
interface RequestListener {
  /** Every frame before the final one. */
  frame(frame: GuestFrame): void;
}

/** One request under way. */
export interface OpenRequest {
  readonly id: number;
  /** Resolves at `done` (or the pong), rejects with the agent's refusal or with the loss of the link. */
  readonly outcome: Promise<GuestFrame>;
  /** Tells the agent that nobody waits; what still comes is dropped. */
  cancel(): void;
}

/** The numbered requests of one connection, beside the processes. */
export interface GuestRequests {
  /** Sends a request once fewer than the agent's limit are under way. */
  open(request: { type: number; flags?: number; payload: Uint8Array }, listener: RequestListener): Promise<OpenRequest>;
  send(frame: { type: number; id: number; payload?: Uint8Array }): void;
  /** Takes a request frame of the agent; false when the frame is not one. Throws `guest_protocol`. */
  frame(frame: GuestFrame): boolean;
  lost(error: AppError): void;
}

interface Pending {
  readonly listener: RequestListener;
  readonly resolve: (frame: GuestFrame) => void;
  readonly reject: (error: AppError) => void;
  readonly hasPlace: boolean;
  canceled: boolean;
}

const requestIdMax = 0xffff_ffff;
const types: ReadonlySet<number> = new Set([
  agentFrame.pong,
  agentFrame.data,
  agentFrame.entries,
  agentFrame.done,
  agentFrame.requestError,
  agentFrame.writeCredit,
]);

/** `readError` makes the error of a refusal; `openMax` bounds the requests under way. */
export function createGuestRequests(
  wire: GuestWire,
  options: { openMax: number; readError: (frame: GuestFrame) => AppError },
): GuestRequests {
  const pending = new Map<number, Pending>();
  const waiting: PromiseWithResolvers<void>[] = [];
  let places = options.openMax;
  let lastId = 0;
  let ended: AppError | null = null;

  const takePlace = async (): Promise<void> => {
    if (places > 0) {
      places -= 1;
      return;
    }
    const ticket = Promise.withResolvers<void>();
    waiting.push(ticket);
    await ticket.promise;
  };
  const finish = (id: number, hasPlace: boolean): void => {
    pending.delete(id);
    if (!hasPlace) return;
    const next = waiting.shift();
    if (next === undefined) places += 1;
    else next.resolve(); // which has the place now
  };
  const freeId = (): number => {
    do lastId = lastId === requestIdMax ? 1 : lastId + 1;
    while (pending.has(lastId));
    return lastId;
  };

  return {
    async open(request, listener) {
      const hasPlace = request.type !== hostFrame.ping; // whether the agent lives is asked when it is busy, too
      if (hasPlace) await takePlace();
      if (ended !== null) throw ended;
      const id = freeId();
      const { promise, resolve, reject } = Promise.withResolvers<GuestFrame>();
      promise.catch(() => undefined); // the caller may have left before the answer
      const entry: Pending = { listener, resolve, reject, hasPlace, canceled: false };
      pending.set(id, entry);
      wire.send({ ...request, id });
      const cancel = (): void => {
        if (entry.canceled || pending.get(id) !== entry) return;
        entry.canceled = true;
        wire.send({ type: hostFrame.cancel, id });
      };
      return { id, outcome: promise, cancel };
    },
    send: (frame) => wire.send(frame),
    frame(frame) {
      if (!types.has(frame.type)) return false;
      const entry = pending.get(frame.id);
      if (entry === undefined) throw protocolError('a frame for an unknown request');
      if (frame.type === agentFrame.requestError) entry.reject(options.readError(frame));
      else if (frame.type === agentFrame.done || frame.type === agentFrame.pong) entry.resolve(frame);
      else {
        if (!entry.canceled) entry.listener.frame(frame);
        return true;
      }
      finish(frame.id, entry.hasPlace);
      return true;
    },
    lost(error) {
      ended = error;
      for (const entry of pending.values()) entry.reject(error);
      pending.clear();
      for (const ticket of waiting.splice(0)) ticket.resolve();
    },
  };
}
