import { AppError } from '@caisson/contracts/app-error';
import type { ErrorCode } from '@caisson/contracts/error-table';
import { type GuestFrame, guestLimits } from './guest-frames.ts';
import type { GuestExit, GuestFileStat } from './guest-link.ts';

const errorCodes: ReadonlyMap<number, ErrorCode> = new Map([
  [1, 'not_found'],
  [2, 'already_exists'],
  [3, 'not_a_directory'],
  [4, 'permission_denied'],
  [5, 'invalid_argument'],
  [6, 'io_error'],
  [7, 'limit_exceeded'],
]);

/** The error for something no honest agent does. */
export function protocolError(detail: string): AppError {
  return new AppError('guest_protocol', `The agent in the capsule broke its protocol: ${detail}.`);
}

/** Refuses a payload whose size is not the one of its frame. */
export function expectBytes(frame: GuestFrame, sizeBytes: number): void {
  if (frame.payload.length !== sizeBytes) throw protocolError(`frame ${frame.type} has ${frame.payload.length} bytes`);
}

/** Text of the agent, bounded and without control characters. */
function readText(bytes: Buffer): string {
  if (bytes.length > guestLimits.messageBytes) throw protocolError('a message is too long');
  return bytes.toString('utf8').replace(/\p{Cc}/gu, '?');
}

/** The refusal in a process error or a request error. */
export function readError(frame: GuestFrame): AppError {
  if (frame.payload.length < 2) throw protocolError('an error without a code');
  const code = errorCodes.get(frame.payload.readUInt16LE(0));
  if (code === undefined) throw protocolError('an unknown error code');
  return new AppError(code, readText(frame.payload.subarray(2)));
}

/** Why the agent ends the connection. */
export function readGoodbye(frame: GuestFrame): string {
  if (frame.payload.length < 2) throw protocolError('a goodbye without a code');
  return readText(frame.payload.subarray(2));
}

/** An offset or size; more than a number can hold exactly is a violation. */
export function readOffset(payload: Buffer, at: number): number {
  const value = payload.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError('an offset beyond all bounds');
  return Number(value);
}

/** The exit and the whole length of the output before it. */
export function readExit(frame: GuestFrame): { readonly exit: GuestExit; readonly endOffset: number } {
  expectBytes(frame, 16);
  const exitCode = frame.payload.readUInt32LE(0);
  const signal = frame.payload.readUInt32LE(4);
  if (exitCode > 255 || signal > 64) throw protocolError('an impossible exit');
  return {
    exit: { exitCode, signal: signal === 0 ? null : signal, timedOut: (frame.flags & 1) === 1 },
    endOffset: readOffset(frame.payload, 8),
  };
}

const entryBytes = 31;
const entryTypes: ReadonlyMap<number, GuestFileStat['type']> = new Map([
  [1, 'file'],
  [2, 'directory'],
  [3, 'symlink'],
  [4, 'other'],
]);

function clamp(value: bigint): number {
  const most = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(value > most ? most : value < -most ? -most : value);
}

function readEntry(payload: Buffer, at: number): { entry: GuestFileStat; end: number } {
  if (payload.length - at < entryBytes) throw protocolError('a cut directory entry');
  const type = entryTypes.get(payload.readUInt8(at));
  const end = at + entryBytes + payload.readUInt16LE(at + 29);
  const name = payload.subarray(at + entryBytes, end).toString('utf8');
  if (type === undefined || end > payload.length || !isName(name)) throw protocolError('a bad directory entry');
  const entry = {
    name,
    type,
    mode: payload.readUInt32LE(at + 1) & 0o7777,
    uid: payload.readUInt32LE(at + 5),
    gid: payload.readUInt32LE(at + 9),
    sizeBytes: clamp(payload.readBigUInt64LE(at + 13)),
    modifiedAtMs: clamp(payload.readBigInt64LE(at + 21)),
  };
  return { entry, end };
}

/** One part of a path: what a caller may append to a directory's path without leaving it. */
function isName(name: string): boolean {
  if (name === '/') return true; // the root itself, as stat names it
  return name.length > 0 && name.length <= 255 && name !== '..' && name !== '.' && !/[/\0]/.test(name);
}

/** The entries of one frame, each checked. Names that are not UTF-8 come with replacement characters. */
export function readEntries(frame: GuestFrame): readonly GuestFileStat[] {
  const entries: GuestFileStat[] = [];
  for (let at = 0; at < frame.payload.length; ) {
    const { entry, end } = readEntry(frame.payload, at);
    entries.push(entry);
    at = end;
  }
  return entries;
}
