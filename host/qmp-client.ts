import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { isErrno } from './container-errors.ts';
import { isRecord } from './is-record.ts';

/** What QEMU tells unasked. */
interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** The control socket of one QEMU. QEMU may have been taken over by its guest: what it says is bounded and checked. */
export interface QmpClient {
  /** The version QEMU greets with, e.g. `10.0.13`. */
  readonly version: string;
  /** Resolves with the reason when the connection ends; pending calls then reject. */
  readonly closed: Promise<string>;
  /**
   * The `return` of a command. Rejects with `io_error` and QEMU's words when it refuses, with `guest_lost` when QEMU ends or does not
   * answer within `timeoutMs` (default 10 s).
   */
  execute(command: string, parameters?: object, timeoutMs?: number): Promise<unknown>;
  /** What comes from now on, until the connection ends. A reader that falls more than 256 behind misses the oldest. */
  events(): AsyncIterable<QmpEvent>;
  close(): void;
}

const lineBytesMax = 4 * 2 ** 20;
const pendingMax = 64;
const eventsMax = 256;
const answerTimeoutMs = 10_000;

interface QmpOptions {
  /** How long QEMU may take to open its socket and greet. */
  readonly timeoutMs: number;
  /** Ends the waiting early, e.g. because QEMU is dead. */
  readonly signal?: AbortSignal;
}

/** Connects as soon as QEMU listens at `socketPath`, and negotiates. Throws `guest_lost`. */
export async function connectQmp(socketPath: string, { timeoutMs, signal }: QmpOptions): Promise<QmpClient> {
  const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
  const socket = await connectWhenThere(socketPath, limit);
  const wire = openWire(socket);
  const onAbort = () => wire.end('QEMU did not greet in time');
  limit.addEventListener('abort', onAbort, { once: true });
  try {
    const version = await wire.greeted;
    await wire.execute('qmp_capabilities');
    return { ...wire.client, version };
  } finally {
    limit.removeEventListener('abort', onAbort);
  }
}

/** QEMU makes its socket some milliseconds after it was started. */
async function connectWhenThere(socketPath: string, limit: AbortSignal): Promise<Socket> {
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 20)) {
    const socket = createConnection(socketPath);
    const error = await new Promise<unknown>((resolve) => {
      socket.once('connect', () => resolve(null));
      socket.once('error', resolve);
    });
    if (error === null) return socket;
    socket.destroy();
    if (!isErrno(error, 'ENOENT', 'ECONNREFUSED')) throw lost(`QEMU's control socket cannot be opened: ${error}`);
    if (limit.aborted) throw lost('QEMU opened no control socket');
    await delay(pauseMs);
  }
}

interface Wire {
  readonly greeted: Promise<string>;
  readonly execute: QmpClient['execute'];
  readonly client: Omit<QmpClient, 'version'>;
  end(reason: string): void;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: AppError): void;
}

function openWire(socket: Socket): Wire {
  const greeting = Promise.withResolvers<string>();
  const closed = Promise.withResolvers<string>();
  const pending = new Map<number, Pending>();
  const readers = new Set<EventReader>();
  let lastId = 0;
  let endedWith: string | null = null;
  greeting.promise.catch(() => {});

  const end = (reason: string) => {
    if (endedWith !== null) return;
    endedWith = reason;
    socket.destroy();
    greeting.reject(lost(reason));
    for (const call of pending.values()) call.reject(lost(reason));
    pending.clear();
    for (const reader of readers) reader.end();
    closed.resolve(reason);
  };
  const onMessage = (message: Readonly<Record<string, unknown>>) => {
    if ('QMP' in message) return greeting.resolve(versionOf(message.QMP));
    if (typeof message.event === 'string') {
      const event = { name: message.event, data: isRecord(message.data) ? message.data : {} };
      for (const reader of readers) reader.push(event);
      return;
    }
    const call = typeof message.id === 'number' ? pending.get(message.id) : undefined;
    if (call === undefined) return end('QEMU answered what nobody asked');
    pending.delete(Number(message.id));
    if ('return' in message) call.resolve(message.return);
    else call.reject(refusalOf(message.error));
  };
  const execute = async (command: string, parameters?: object, timeoutMs = answerTimeoutMs): Promise<unknown> => {
    if (endedWith !== null) throw lost(endedWith);
    if (pending.size >= pendingMax) throw new AppError('limit_exceeded', 'too many commands wait for QEMU');
    const id = ++lastId;
    const answer = Promise.withResolvers<unknown>();
    pending.set(id, answer);
    const timer = setTimeout(() => {
      answer.reject(lost(`QEMU did not answer "${command}" within ${timeoutMs} ms`));
      // The answer may still come and belongs to nobody then.
      pending.set(id, { resolve: () => {}, reject: () => {} });
    }, timeoutMs);
    socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    return answer.promise.finally(() => clearTimeout(timer));
  };

  const read = createLineReader(onMessage, end);
  socket.on('data', read);
  socket.on('error', (error) => end(`the connection to QEMU failed: ${error.message}`));
  socket.on('close', () => end('QEMU closed its control socket'));
  return {
    greeted: greeting.promise,
    execute,
    end,
    client: {
      closed: closed.promise,
      execute,
      events() {
        const reader = createEventReader(() => readers.delete(reader));
        if (endedWith === null) readers.add(reader);
        else reader.end();
        return reader.events;
      },
      close: () => end('the connection was closed'),
    },
  };
}

/** Cuts a stream of bytes into lines of JSON objects; anything else, or a line without end, ends the connection. */
function createLineReader(
  onMessage: (message: Readonly<Record<string, unknown>>) => void,
  end: (reason: string) => void,
): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let keptBytes = 0;
  const onLine = (line: string) => {
    if (line.trim() === '') return;
    const message = parse(line);
    if (message === null) end('QEMU said something that is no JSON object');
    else onMessage(message);
  };
  return (chunk) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      const line = Buffer.concat([...parts, chunk.subarray(from, at)]).toString();
      parts = [];
      keptBytes = 0;
      from = at + 1;
      onLine(line);
    }
    if (from === chunk.length) return;
    parts.push(chunk.subarray(from));
    keptBytes += chunk.length - from;
    if (keptBytes > lineBytesMax) end('QEMU sent a line without end');
  };
}

function parse(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const message: unknown = JSON.parse(line);
    return isRecord(message) ? message : null;
  } catch {
    return null;
  }
}

interface EventReader {
  readonly events: AsyncIterable<QmpEvent>;
  push(event: QmpEvent): void;
  end(): void;
}

function createEventReader(onDone: () => void): EventReader {
  const waiting: QmpEvent[] = [];
  let isEnded = false;
  let wake = Promise.withResolvers<void>();
  async function* read(): AsyncIterable<QmpEvent> {
    try {
      for (;;) {
        const event = waiting.shift();
        if (event !== undefined) yield event;
        else if (isEnded) return;
        else await wake.promise;
      }
    } finally {
      onDone();
    }
  }
  const rouse = () => {
    wake.resolve();
    wake = Promise.withResolvers<void>();
  };
  return {
    events: read(),
    push(event) {
      if (waiting.length >= eventsMax) waiting.shift();
      waiting.push(event);
      rouse();
    },
    end() {
      isEnded = true;
      rouse();
    },
  };
}

function versionOf(greeting: unknown): string {
  const version = isRecord(greeting) && isRecord(greeting.version) ? greeting.version.qemu : null;
  return isRecord(version) ? [version.major, version.minor, version.micro].map(Number).join('.') : 'unknown';
}

function refusalOf(error: unknown): AppError {
  const words = isRecord(error) && typeof error.desc === 'string' ? error.desc : 'without a reason';
  return new AppError('io_error', `QEMU refused: ${words.slice(0, 1_000)}`);
}

function lost(reason: string): AppError {
  return new AppError('guest_lost', reason);
}
