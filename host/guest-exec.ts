import { AppError } from '@caisson/contracts/app-error';
import { guestLimits, hostFrame } from './guest-frames.ts';
import type { ExecSpec } from './guest-link.ts';
import { windowUnits } from './guest-output.ts';
import { clampSize } from './guest-process.ts';
import type { GuestWire } from './guest-wire.ts';

const flagStdin = 1;
const flagPty = 2;
const flagMore = 1;
const timeoutMsMax = 0xffff_ffff;

/** Checks an exec request and writes it in the protocol's form; `invalid_argument` or `limit_exceeded` says what is wrong. */
export function encodeExec(spec: ExecSpec): Buffer {
  const variables = Object.entries(spec.env).map(([name, value]) => checkVariable(name, value));
  if (spec.argv.length === 0) throw new AppError('invalid_argument', 'There is no program to run.');
  if (spec.argv.length > guestLimits.execStrings || variables.length > guestLimits.execStrings) {
    throw new AppError('limit_exceeded', `A process takes at most ${guestLimits.execStrings} arguments or variables.`);
  }
  const strings = [checkPath(spec.cwd), spec.user ?? '', ...spec.argv, ...variables];
  for (const string of strings) {
    if (string.includes('\0')) throw new AppError('invalid_argument', 'No argument, variable or path may hold a NUL.');
  }
  const head = execHead(spec, variables.length);
  const bytes = Buffer.concat([head, Buffer.from(`${strings.join('\0')}\0`, 'utf8')]);
  if (bytes.length > guestLimits.execBytes) {
    throw new AppError('limit_exceeded', 'Arguments and environment are larger than 1 MiB together.');
  }
  return bytes;
}

/** Sends an encoded request in as many frames as it needs, in a row as the agent wants them. */
export function sendExec(wire: GuestWire, id: number, request: Buffer): void {
  for (let at = 0; at < request.length; at += guestLimits.payloadBytes) {
    const payload = request.subarray(at, at + guestLimits.payloadBytes);
    const isLast = at + payload.length === request.length;
    wire.send({ type: hostFrame.exec, id, flags: isLast ? 0 : flagMore, payload });
  }
}

function execHead(spec: ExecSpec, variableCount: number): Buffer {
  const head = Buffer.alloc(24);
  head.writeUInt32LE((spec.stdin === true ? flagStdin : 0) | (spec.pty === undefined ? 0 : flagPty), 0);
  head.writeUInt16LE(spec.pty === undefined ? 0 : clampSize(spec.pty.rows), 4);
  head.writeUInt16LE(spec.pty === undefined ? 0 : clampSize(spec.pty.cols), 6);
  head.writeUInt32LE(checkTimeout(spec.timeoutMs), 8);
  head.writeUInt32LE(windowUnits, 12);
  head.writeUInt32LE(spec.argv.length, 16);
  head.writeUInt32LE(variableCount, 20);
  return head;
}

function checkTimeout(timeoutMs: number | undefined): number {
  if (timeoutMs === undefined) return 0;
  if (timeoutMs > 0 && timeoutMs <= timeoutMsMax) return Math.ceil(timeoutMs);
  throw new AppError('invalid_argument', `${timeoutMs} ms is not a time limit.`);
}

function checkVariable(name: string, value: string): string {
  if (name === '' || name.includes('=')) throw new AppError('invalid_argument', `"${name}" cannot name a variable.`);
  return `${name}=${value}`;
}

/** An absolute path the agent can take; otherwise `invalid_argument`. */
export function checkPath(path: string): string {
  if (!path.startsWith('/') || path.includes('\0')) {
    throw new AppError('invalid_argument', `"${path.slice(0, 200)}" is not an absolute path.`);
  }
  if (Buffer.byteLength(path) > guestLimits.pathBytes) throw new AppError('invalid_argument', 'The path is too long.');
  return path;
}
