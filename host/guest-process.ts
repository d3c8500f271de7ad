import { AppError } from '@caisson/contracts/app-error';
import { protocolError } from './guest-answers.ts';
import { guestLimits, hostFrame } from './guest-frames.ts';
import { createGuestInflow } from './guest-inflow.ts';
import type { GuestExit, GuestOutput, GuestProcess } from './guest-link.ts';
import { createCreditedQueue } from './guest-output.ts';
import type { GuestWire } from './guest-wire.ts';

/** Acknowledgements below this many bytes wait for the end of the event loop's turn, so that small ones travel together. */
const promptAcknowledgeBytes = 65_536;

/** A process as the link drives it: the caller's handle and what arrives for it. */
export interface ProcessHandle {
  readonly process: GuestProcess;
  output(item: GuestOutput): void;
  exit(exit: GuestExit, endOffset: number): void;
  stdinCredit(units: number): void;
  stdinClosed(): void;
  lost(error: AppError): void;
}

interface HandleOptions {
  readonly wire: GuestWire;
  readonly processId: number;
  readonly fromOffset: number;
  /** Null when nothing can be written to it. */
  readonly stdinCredit: number | null;
  /** The caller has no more need of the process. */
  readonly forget: () => void;
}

const noReader = (): AppError => new AppError('io_error', 'The process does not read its input any more.');

/** Makes the handle of a process that was started or taken up just now. */
export function createProcessHandle(options: HandleOptions): ProcessHandle {
  const { wire, processId: id } = options;
  const send = (type: number, payload?: Uint8Array): void =>
    wire.send(payload === undefined ? { type, id } : { type, id, payload });
  const queue = createCreditedQueue<GuestOutput>((units) => send(hostFrame.credit, uint32(units)));
  const inflow = createGuestInflow(options.stdinCredit ?? guestLimits.inboundBytes, (piece) =>
    send(hostFrame.stdin, piece),
  );
  const exit = Promise.withResolvers<GuestExit>();
  exit.promise.catch(() => undefined); // whoever does not wait for the exit is not punished for its loss
  let receivedOffset = options.fromOffset;

  const process: GuestProcess = {
    processId: id,
    output: () => queue.items(),
    acknowledge: createAcknowledge(
      () => receivedOffset,
      (offset) => send(hostFrame.acknowledge, uint64(offset)),
    ),
    exit: exit.promise,
    async write(bytes) {
      if (options.stdinCredit === null) {
        throw new AppError('invalid_argument', 'The process was started without an input to write to.');
      }
      await inflow.write(bytes);
    },
    closeStdin: () => inflow.afterwards(() => send(hostFrame.stdinClose)),
    resize: (rows, cols) => send(hostFrame.resize, terminalSize(rows, cols)),
    kill: (signal) => send(hostFrame.signal, uint32(checkSignal(signal))),
    forget: options.forget,
  };

  return {
    process,
    output(item) {
      if (item.endOffset - item.bytes.length !== receivedOffset) throw protocolError('output with a gap');
      queue.push(item, item.bytes.length);
      receivedOffset = item.endOffset;
    },
    exit(result, endOffset) {
      if (endOffset !== receivedOffset) throw protocolError('an exit before the end of the output');
      queue.end();
      inflow.stop(noReader());
      exit.resolve(result);
    },
    stdinCredit: (units) => inflow.grant(units),
    stdinClosed: () => inflow.stop(noReader()),
    lost(error) {
      queue.end(error);
      inflow.stop(error);
      exit.reject(error);
    },
  };
}

function createAcknowledge(received: () => number, send: (offset: number) => void): (offset: number) => void {
  let sent = 0;
  let wanted = 0;
  const flush = (): void => {
    if (wanted === sent) return;
    sent = wanted;
    send(wanted);
  };
  return (offset) => {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > received()) {
      throw new AppError('invalid_argument', 'Only output that has arrived can be acknowledged.');
    }
    if (offset <= wanted) return;
    const isFirst = wanted === sent;
    wanted = offset;
    if (wanted - sent >= promptAcknowledgeBytes) flush();
    else if (isFirst) setImmediate(flush);
  };
}

function checkSignal(signal: number): number {
  if (Number.isInteger(signal) && signal >= 1 && signal <= 64) return signal;
  throw new AppError('invalid_argument', `${signal} is not the number of a signal.`);
}

function terminalSize(rows: number, cols: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt16LE(clampSize(rows), 0);
  payload.writeUInt16LE(clampSize(cols), 2);
  return payload;
}

/** A terminal's height or width as the kernel takes it. */
export function clampSize(value: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= 65_535) return value;
  throw new AppError('invalid_argument', `${value} is not the size of a terminal.`);
}

/** Four bytes, little end first. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt(value), 0);
  return bytes;
}

/** Refuses what the agent would refuse as too big, before anything is sent. */
export function checkStdinBytes(credit: number): number {
  if (credit > guestLimits.inboundBytes) throw protocolError('more credit than its buffer holds');
  return credit;
}
