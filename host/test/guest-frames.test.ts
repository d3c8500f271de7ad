import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createFrameReader, encodeFrame, type GuestFrame, guestLimits } from '../guest-frames.ts';

const frame = fc.record({
  type: fc.integer({ min: 0x80, max: 0xff }),
  flags: fc.integer({ min: 0, max: 255 }),
  id: fc.integer({ min: 0, max: 0xffffffff }),
  payload: fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.integer({ min: 0, max: guestLimits.payloadBytes }).map((size) => new Uint8Array(size).fill(size)),
  ),
});

/** Splits bytes at the given places, each a share of the whole. */
function split(bytes: Buffer, shares: readonly number[]): Buffer[] {
  const places = shares.map((share) => Math.floor(share * bytes.length)).sort((a, b) => a - b);
  return [0, ...places].map((start, index) => bytes.subarray(start, places[index] ?? bytes.length));
}

test('frames come out as they went in, however the stream is cut', () => {
  const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 30 });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 8 }), shares, (frames, cuts) => {
      const read: GuestFrame[] = [];
      const reader = createFrameReader((each) => read.push(each));
      for (const chunk of split(Buffer.concat(frames.map(encodeFrame)), cuts)) reader(Buffer.from(chunk));
      expect(read.map((each) => ({ ...each, payload: Buffer.from(each.payload) }))).toEqual(
        frames.map((each) => ({ ...each, payload: Buffer.from(each.payload) })),
      );
    }),
  );
});

test('a stream byte by byte gives the same frames', () => {
  const read: GuestFrame[] = [];
  const reader = createFrameReader((each) => read.push(each));
  const bytes = Buffer.concat([1, 2, 3].map((id) => encodeFrame({ type: 0x92, id, payload: Buffer.alloc(id * 10) })));
  for (const byte of bytes) reader(Buffer.from([byte]));
  expect(read.map((each) => [each.id, each.payload.length])).toEqual([
    [1, 10],
    [2, 20],
    [3, 30],
  ]);
});

test('any bytes are read or refused with the protocol error, and never more than one frame is held', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 500 }), { maxLength: 20 }), (chunks) => {
      const reader = createFrameReader((each) => expect(each.payload.length).toBeLessThanOrEqual(65_536));
      try {
        for (const chunk of chunks) reader(Buffer.from(chunk));
      } catch (error) {
        expect(error).toMatchObject({ code: 'guest_protocol' });
      }
    }),
    { numRuns: 500 },
  );
});

test.each([
  ['a payload beyond the limit', Buffer.from([0x92, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0])],
  ['a payload of four gigabytes', Buffer.from([0x92, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])],
  ['reserved bits', Buffer.from([0x92, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0])],
  ['a frame only hosts send', Buffer.from([0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])],
])('a header with %s is refused before any payload is kept', (_, header) => {
  const reader = createFrameReader(() => expect.unreachable());
  expect(() => reader(header)).toThrow(expect.objectContaining({ code: 'guest_protocol' }));
});
