import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  chunkFrame,
  doneFrame,
  firstSeqToSend,
  heartbeatFrame,
  historyFrame,
  type LogChunk,
  logChunkOf,
} from '../ci/log-stream.ts';
import { decodeOutput } from '../ci/log-text.ts';
import { sseParser } from '../sse-parser.ts';

const none: Uint8Array = new Uint8Array();
const chunk: LogChunk = { seq: 17, stream: 'stderr', content: 'a\r\nb\u2028"\0', atMs: 1_750_000_000_123 };

test('a chunk is spelled as on the wire', () => {
  expect(chunkFrame({ seq: 17, stream: 'stderr', content: 'x', atMs: 1_750_000_000_000 })).toBe(
    'id: 17\nevent: chunk\ndata: {"seq":17,"stream_kind":1,"content":"x","ts":1750000000000000000}\n\n',
  );
  expect(historyFrame([])).toBe('event: history\ndata: {"chunks":[]}\n\n');
});

test('frames are read back as they were', () => {
  const events = sseParser()(historyFrame([chunk]) + heartbeatFrame + chunkFrame(chunk) + doneFrame);
  expect(events.map(({ event, id }) => [event, id])).toEqual([
    ['history', ''],
    ['chunk', '17'],
    ['done', '17'],
  ]);
  expect(logChunkOf(JSON.parse(events[1]?.data ?? ''))).toEqual(chunk);
});

test('events do not depend on where the text is cut', () => {
  const text = `\uFEFF${historyFrame([chunk])}data: one\r\ndata:two\r\rid\ndata\n\n: comment\nevent: odd\n\n${doneFrame}data: cut`;
  const whole = sseParser()(text);
  expect(whole.map(({ event, data }) => [event, data])).toEqual([
    ['history', expect.any(String)],
    ['message', 'one\ntwo'],
    ['message', ''],
    ['done', '{}'],
  ]);
  fc.assert(
    fc.property(fc.array(fc.nat(text.length)), (cuts) => {
      const parse = sseParser();
      const places = [0, ...cuts.sort((left, right) => left - right), text.length];
      const pieces = places.slice(1).map((place, index) => text.slice(places[index], place));
      expect(pieces.flatMap((piece) => parse(piece))).toEqual(whole);
    }),
  );
});

test('what is no chunk is none, and an unknown stream is meta', () => {
  for (const value of [null, 'x', {}, { seq: '1', content: '', ts: 0 }]) expect(logChunkOf(value)).toBeNull();
  expect(logChunkOf({ seq: 1, stream_kind: 9, content: '', ts: 0 })?.stream).toBe('meta');
});

test.each([
  [undefined, undefined, 0],
  ['17', undefined, 18],
  [undefined, '17', 18],
  ['3', '17', 4],
  ['-1', undefined, 0],
  ['-9', undefined, 0],
  ['x', undefined, 0],
  ['', undefined, 0],
  ['99999999999999999999', undefined, 0],
])('after header %s and query %s the log goes on at %i', (header, query, expected) => {
  expect(firstSeqToSend(header, query)).toBe(expected);
});

test('a character cut by a chunk comes out whole', () => {
  const bytes = Buffer.from('é€😀');
  const first = decodeOutput(none, bytes.subarray(0, 6));
  expect(first.content).toBe('é€');
  expect(decodeOutput(first.rest, bytes.subarray(6))).toEqual({ content: '😀', rest: none });
});

test('bytes that are no text are shown as such', () => {
  expect(decodeOutput(none, Uint8Array.of(65, 0xff, 66, 0xc0, 0x80, 67)).content).toBe('A\uFFFDB\uFFFD\uFFFDC');
  expect(decodeOutput(Uint8Array.of(0xe2, 0x82), Uint8Array.of(65)).content).toBe('\uFFFDA');
  expect(decodeOutput(none, Buffer.from('\uFEFFa')).content).toBe('\uFEFFa');
});

test('text comes out the same however its bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 40 }),
      fc.string({ unit: 'binary' }),
      fc.array(fc.nat(60)),
      (noise, text, cuts) => {
        const bytes = Buffer.concat([Buffer.from(text), noise, Buffer.from(text)]);
        const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
        let rest = none;
        let content = '';
        for (const [index, place] of places.slice(1).entries()) {
          const decoded = decodeOutput(rest, bytes.subarray(places[index], place));
          rest = decoded.rest;
          content += decoded.content;
          expect(rest.length).toBeLessThanOrEqual(3);
        }
        expect(content + new TextDecoder().decode(rest)).toBe(
          new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes),
        );
      },
    ),
  );
});
