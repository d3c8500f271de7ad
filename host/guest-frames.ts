import { AppError } from '@caisson/contracts/app-error';

/** Numbers of protocol version 1; `docs/guest-protocol.md` explains each, `guest/wire.h` is the other side. */
export const guestLimits = {
  payloadBytes: 65_536,
  dataChunkBytes: 32_768,
  frameCost: 64,
  inboundBytes: 65_536,
  execBytes: 1_048_576,
  execStrings: 8_192,
  pathBytes: 4_095,
  messageBytes: 512,
} as const;

/** Frames from the host. */
export const hostFrame = {
  hello: 0x01,
  ping: 0x02,
  exec: 0x10,
  attach: 0x11,
  credit: 0x12,
  acknowledge: 0x13,
  stdin: 0x14,
  stdinClose: 0x15,
  signal: 0x16,
  resize: 0x17,
  forget: 0x18,
  read: 0x30,
  write: 0x31,
  stat: 0x32,
  list: 0x33,
  mkdir: 0x34,
  remove: 0x35,
  data: 0x38,
  end: 0x39,
  cancel: 0x3a,
  requestCredit: 0x3b,
  identity: 0x50,
} as const;

/** Frames from the agent. */
export const agentFrame = {
  hello: 0x81,
  pong: 0x82,
  goodbye: 0x83,
  started: 0x90,
  attached: 0x91,
  output: 0x92,
  exit: 0x93,
  stdinCredit: 0x94,
  stdinClosed: 0x95,
  processError: 0x96,
  forgotten: 0x97,
  data: 0xb0,
  entries: 0xb1,
  done: 0xb2,
  requestError: 0xb3,
  writeCredit: 0xb4,
} as const;

export interface GuestFrame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
}

const headerBytes = 12;

/** One frame as bytes for the wire. */
export function encodeFrame(frame: {
  type: number;
  id: number;
  flags?: number;
  payload?: Uint8Array | undefined;
}): Buffer {
  const payload = frame.payload ?? new Uint8Array(0);
  const bytes = Buffer.allocUnsafe(headerBytes + payload.length);
  bytes.writeUInt8(frame.type, 0);
  bytes.writeUInt8(frame.flags ?? 0, 1);
  bytes.writeUInt16LE(0, 2);
  bytes.writeUInt32LE(frame.id, 4);
  bytes.writeUInt32LE(payload.length, 8);
  bytes.set(payload, headerBytes);
  return bytes;
}

/** Size of the frame this header begins; `guest_protocol` for a header no agent sends. */
function frameBytes(header: Buffer): number {
  const payloadBytes = header.readUInt32LE(8);
  if (payloadBytes > guestLimits.payloadBytes || header.readUInt16LE(2) !== 0 || header.readUInt8(0) < 0x80) {
    throw new AppError('guest_protocol', 'The agent sent a malformed frame header.');
  }
  return headerBytes + payloadBytes;
}

function decodeFrame(bytes: Buffer): GuestFrame {
  return {
    type: bytes.readUInt8(0),
    flags: bytes.readUInt8(1),
    id: bytes.readUInt32LE(4),
    payload: bytes.subarray(headerBytes),
  };
}

/**
 * Cuts a byte stream into frames, holding at most one unfinished frame. The function it returns takes the next bytes and calls
 * `onFrame` for each frame in order; it throws `guest_protocol` for a header no agent sends.
 */
export function createFrameReader(onFrame: (frame: GuestFrame) => void): (chunk: Buffer) => void {
  const held = Buffer.allocUnsafe(headerBytes + guestLimits.payloadBytes);
  let heldBytes = 0;

  const hold = (chunk: Buffer, untilBytes: number): Buffer => {
    const taken = chunk.subarray(0, untilBytes - heldBytes);
    held.set(taken, heldBytes);
    heldBytes += taken.length;
    return chunk.subarray(taken.length);
  };
  const finishHeld = (chunk: Buffer): Buffer => {
    const afterHeader = heldBytes < headerBytes ? hold(chunk, headerBytes) : chunk;
    if (heldBytes < headerBytes) return afterHeader;
    const rest = hold(afterHeader, frameBytes(held));
    if (heldBytes < frameBytes(held)) return rest;
    const frame = decodeFrame(Buffer.from(held.subarray(0, heldBytes)));
    heldBytes = 0;
    onFrame(frame);
    return rest;
  };

  return (chunk) => {
    let rest = heldBytes > 0 ? finishHeld(chunk) : chunk;
    while (rest.length >= headerBytes && frameBytes(rest) <= rest.length) {
      const size = frameBytes(rest);
      onFrame(decodeFrame(rest.subarray(0, size)));
      rest = rest.subarray(size);
    }
    if (rest.length > 0) hold(rest, rest.length + heldBytes);
  };
}
