import type { Duplex } from 'node:stream';
import { AppError } from '@caisson/contracts/app-error';
import { isErrno } from './container-errors.ts';
import { protocolError, readGoodbye } from './guest-answers.ts';
import { agentFrame, createFrameReader, encodeFrame, type GuestFrame } from './guest-frames.ts';

/** Bytes that may wait for an agent that does not read; a well-behaved one never lets this much pile up. */
const unreadBytesMax = 32 * 1024 * 1024;

/** The way frames go out; after the end they go nowhere. */
export interface GuestWire {
  send(frame: { type: number; id: number; flags?: number; payload?: Uint8Array }): void;
}

/** A wire with its end: `close` gives the reason that `closed` resolves with and the error that waiting calls get. */
export interface OpenGuestWire extends GuestWire {
  readonly closed: Promise<string>;
  readonly isClosed: () => boolean;
  close(reason: string): void;
}

interface WireHandlers {
  /** May throw `guest_protocol`, which ends the wire. */
  readonly onFrame: (frame: GuestFrame) => void;
  /** Called once, before `closed` resolves. */
  readonly onEnd: (error: AppError) => void;
}

/** Runs the protocol's framing over a connected socket until either side ends it. */
export function openGuestWire(socket: Duplex, handlers: WireHandlers): OpenGuestWire {
  const { promise: closed, resolve } = Promise.withResolvers<string>();
  let ended = false;
  let goodbye: string | null = null;

  const end = (error: AppError): void => {
    if (ended) return;
    ended = true;
    socket.destroy();
    handlers.onEnd(error);
    resolve(error.message);
  };
  const lose = (reason: string): void => end(new AppError('guest_lost', reason));
  const read = createFrameReader((frame) => {
    if (ended) return;
    if (frame.type === agentFrame.goodbye) goodbye = readGoodbye(frame);
    else handlers.onFrame(frame);
  });

  socket.on('data', (chunk: Buffer) => {
    if (ended) return;
    try {
      read(chunk);
    } catch (error) {
      end(error instanceof AppError ? error : protocolError(String(error)));
    }
  });
  const leave = (): void => lose(goodbye === null ? 'The agent is gone.' : `The agent left: ${goodbye}.`);
  // What is written to an agent that has just gone fails before its end is read.
  const isGone = (error: Error): boolean => isErrno(error, 'EPIPE', 'ECONNRESET');
  socket.on('error', (error) =>
    isGone(error) ? leave() : lose(`The connection to the agent failed: ${error.message}.`),
  );
  socket.on('close', leave);

  return {
    closed,
    isClosed: () => ended,
    close: lose,
    send(frame) {
      if (ended) return;
      socket.write(encodeFrame(frame));
      if (socket.writableLength > unreadBytesMax) end(protocolError('it does not read'));
    },
  };
}
