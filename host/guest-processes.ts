import { AppError, hasCode } from '@caisson/contracts/app-error';
import { expectBytes, protocolError, readError, readExit, readOffset } from './guest-answers.ts';
import { encodeExec, sendExec } from './guest-exec.ts';
import { agentFrame, type GuestFrame, guestLimits, hostFrame } from './guest-frames.ts';
import type { ExecSpec, GuestProcess } from './guest-link.ts';
import { windowUnits } from './guest-output.ts';
import { checkStdinBytes, createProcessHandle, type ProcessHandle } from './guest-process.ts';
import type { GuestWire } from './guest-wire.ts';

/** The processes of one connection. */
interface GuestProcesses {
  exec(spec: ExecSpec): Promise<GuestProcess>;
  attach(processId: number, fromOffset: number): Promise<GuestProcess | null>;
  /** Takes a process frame of the agent; false when the frame is not one. Throws `guest_protocol`. */
  frame(frame: GuestFrame): boolean;
  lost(error: AppError): void;
}

interface Starting {
  /** Null for exec; the offset asked for by attach. */
  readonly attachOffset: number | null;
  readonly takesInput: boolean;
  readonly resolve: (process: GuestProcess | null) => void;
  readonly reject: (error: AppError) => void;
}

interface Table {
  readonly wire: GuestWire;
  /** Asked for, not answered yet. */
  readonly starting: Map<number, Starting>;
  /** Those whose exit has not arrived. */
  readonly live: Map<number, ProcessHandle>;
  /** Forgotten here, not yet at the agent: what still arrives is dropped. */
  readonly forgotten: Map<number, number>;
  /** The number chosen last for a caller who left the choice. */
  lastId: number;
}

const processIdMax = 0x7fff_ffff;

type Handler = (table: Table, frame: GuestFrame) => void;

const handlers: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [agentFrame.started, onStarted],
  [agentFrame.attached, onAttached],
  [agentFrame.processError, onProcessError],
  [agentFrame.output, onOutput],
  [agentFrame.exit, onExit],
  [agentFrame.stdinCredit, onStdinCredit],
  [agentFrame.stdinClosed, (table, frame) => liveHandle(table, frame)?.stdinClosed()],
  [agentFrame.forgotten, onForgotten],
]);

/** Keeps the processes of a connection; frames that fit none of them are violations. */
export function createGuestProcesses(wire: GuestWire): GuestProcesses {
  const table: Table = { wire, starting: new Map(), live: new Map(), forgotten: new Map(), lastId: 0 };
  return {
    async exec(spec) {
      const request = encodeExec(spec);
      const takesInput = spec.stdin === true || spec.pty !== undefined;
      if (spec.processId !== undefined) return start(table, spec.processId, { request, takesInput });
      for (;;) {
        try {
          return await start(table, nextId(table), { request, takesInput });
        } catch (error) {
          if (!hasCode(error, 'already_exists')) throw error; // an earlier connection used the number
        }
      }
    },
    async attach(processId, fromOffset) {
      if (!Number.isSafeInteger(fromOffset) || fromOffset < 0) {
        throw new AppError('invalid_argument', `${fromOffset} is not an offset.`);
      }
      const answer = expectAnswer(table, checkProcessId(processId), { attachOffset: fromOffset, takesInput: false });
      wire.send({ type: hostFrame.attach, id: processId, payload: encodeAttach(fromOffset) });
      return answer;
    },
    frame(frame) {
      const handle = handlers.get(frame.type);
      handle?.(table, frame);
      return handle !== undefined;
    },
    lost(error) {
      for (const starting of table.starting.values()) starting.reject(error);
      for (const handle of table.live.values()) handle.lost(error);
      table.starting.clear();
      table.live.clear();
    },
  };
}

function checkProcessId(id: number): number {
  if (Number.isInteger(id) && id >= 1 && id <= processIdMax) return id;
  throw new AppError('invalid_argument', `${id} is not the id of a process.`);
}

function nextId(table: Table): number {
  table.lastId = table.lastId === processIdMax ? 1 : table.lastId + 1;
  return table.lastId;
}

async function start(
  table: Table,
  id: number,
  { request, takesInput }: { request: Buffer; takesInput: boolean },
): Promise<GuestProcess> {
  if (table.live.has(checkProcessId(id))) throw new AppError('already_exists', `Process ${id} exists already.`);
  const answer = expectAnswer(table, id, { attachOffset: null, takesInput });
  sendExec(table.wire, id, request);
  const process = await answer;
  if (process === null) throw protocolError('no process was started');
  return process;
}

function encodeAttach(fromOffset: number): Buffer {
  const payload = Buffer.allocUnsafe(12);
  payload.writeBigUInt64LE(BigInt(fromOffset), 0);
  payload.writeUInt32LE(windowUnits, 8);
  return payload;
}

function expectAnswer(
  table: Table,
  id: number,
  what: Pick<Starting, 'attachOffset' | 'takesInput'>,
): Promise<GuestProcess | null> {
  if (table.starting.has(id)) {
    throw new AppError('already_exists', `Process ${id} is being started or taken up already.`);
  }
  return new Promise((resolve, reject) => {
    table.starting.set(id, { ...what, resolve, reject });
  });
}

/** Who waits for this answer; it stays waiting until the answer is found to be good, so that it hears of a bad one. */
function startingOf(table: Table, frame: GuestFrame): Starting {
  const starting = table.starting.get(frame.id);
  if (starting === undefined) throw protocolError('an answer nobody waits for');
  return starting;
}

/** The handle a frame is for, null when it was forgotten meanwhile. */
function liveHandle(table: Table, frame: GuestFrame): ProcessHandle | null {
  const handle = table.live.get(frame.id);
  if (handle !== undefined) return handle;
  if (table.forgotten.has(frame.id)) return null;
  throw protocolError('a frame for an unknown process');
}

function addHandle(
  table: Table,
  id: number,
  options: { fromOffset: number; stdinCredit: number | null },
): GuestProcess {
  const handle = createProcessHandle({ wire: table.wire, processId: id, ...options, forget: () => forget(table, id) });
  table.live.set(id, handle);
  return handle.process;
}

function forget(table: Table, id: number): void {
  table.live.get(id)?.lost(new AppError('guest_lost', 'The process was forgotten.'));
  table.live.delete(id);
  table.forgotten.set(id, (table.forgotten.get(id) ?? 0) + 1);
  table.wire.send({ type: hostFrame.forget, id });
}

function onStarted(table: Table, frame: GuestFrame): void {
  const starting = startingOf(table, frame);
  expectBytes(frame, 4);
  if (starting.attachOffset !== null) throw protocolError('a start where an attach was asked for');
  const credit = checkStdinBytes(frame.payload.readUInt32LE(0));
  table.starting.delete(frame.id);
  starting.resolve(addHandle(table, frame.id, { fromOffset: 0, stdinCredit: starting.takesInput ? credit : null }));
}

function onAttached(table: Table, frame: GuestFrame): void {
  const { attachOffset, resolve } = startingOf(table, frame);
  expectBytes(frame, 20);
  const kept = readOffset(frame.payload, 0);
  const end = readOffset(frame.payload, 8);
  if (attachOffset === null || attachOffset < kept || attachOffset > end) throw protocolError('a wrong attach');
  const credit = checkStdinBytes(frame.payload.readUInt32LE(16));
  table.starting.delete(frame.id);
  table.live.get(frame.id)?.lost(new AppError('guest_lost', 'The process was taken up by a later call.'));
  const stdinCredit = (frame.flags & 1) === 1 ? credit : null;
  resolve(addHandle(table, frame.id, { fromOffset: attachOffset, stdinCredit }));
}

function onProcessError(table: Table, frame: GuestFrame): void {
  const starting = startingOf(table, frame);
  const error = readError(frame);
  table.starting.delete(frame.id);
  if (starting.attachOffset !== null && error.code === 'not_found') starting.resolve(null);
  else starting.reject(error);
}

function onOutput(table: Table, frame: GuestFrame): void {
  const sizeBytes = frame.payload.length - 8;
  if (sizeBytes < 1 || sizeBytes > guestLimits.dataChunkBytes || frame.flags > 1) throw protocolError('bad output');
  const endOffset = readOffset(frame.payload, 0) + sizeBytes;
  const stream = frame.flags === 1 ? 'stderr' : 'stdout';
  liveHandle(table, frame)?.output({ stream, bytes: frame.payload.subarray(8), endOffset });
}

function onExit(table: Table, frame: GuestFrame): void {
  const { exit, endOffset } = readExit(frame);
  liveHandle(table, frame)?.exit(exit, endOffset);
  table.live.delete(frame.id);
}

function onStdinCredit(table: Table, frame: GuestFrame): void {
  expectBytes(frame, 4);
  liveHandle(table, frame)?.stdinCredit(frame.payload.readUInt32LE(0));
}

function onForgotten(table: Table, frame: GuestFrame): void {
  const count = table.forgotten.get(frame.id);
  if (count === undefined) throw protocolError('forgot what it was not asked to');
  if (count > 1) table.forgotten.set(frame.id, count - 1);
  else table.forgotten.delete(frame.id);
}
