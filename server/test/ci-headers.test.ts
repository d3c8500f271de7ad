import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readContract } from '../doors/ci/contract.ts';
import { type CiRig, ciRig } from './ci-rig.ts';

let rig: CiRig;
beforeAll(async () => {
  rig = await ciRig();
});
afterAll(() => rig.close());

const long = 'x'.repeat(20_000);
const body = '{"name":"x"}';
const sized = `content-length: ${body.length}`;
const json = 'content-type: application/json';

/** Lines of a head, and the bytes behind it. */
const heads: readonly (readonly [what: string, lines: readonly string[], rest?: string | Buffer])[] = [
  ['no host', []],
  ['two hosts', ['host: a', 'host: b']],
  ['a header that is too long', ['host: x', `x-long: ${long}`]],
  ['very many headers', ['host: x', ...Array.from({ length: 3_000 }, (_, index) => `h${index}: x`)]],
  ['a name with a space', ['host: x', 'bad name: x']],
  ['a folded header', ['host: x', 'x-folded: a\r\n b']],
  ['a bare line feed in a value', ['host: x', 'x-bad: a\nb: c']],
  ['a zero byte', ['host: x', 'x-zero: a\0b']],
  ['bytes that are no text', ['host: x', 'x-bytes: \xff\xfe']],
  ['a body shorter than it says', ['host: x', json, 'content-length: 100'], body],
  ['a body longer than it says', ['host: x', json, 'content-length: 2'], body],
  ['a length below zero', ['host: x', json, 'content-length: -1'], body],
  ['a length that is no number', ['host: x', json, 'content-length: 0x10'], body],
  ['two lengths', ['host: x', json, 'content-length: 3', 'content-length: 5'], body],
  ['a length and chunks', ['host: x', json, sized, 'transfer-encoding: chunked'], '0\r\n\r\n'],
  ['a broken chunk', ['host: x', json, 'transfer-encoding: chunked'], 'zz\r\nx\r\n0\r\n\r\n'],
  ['a chunk without end', ['host: x', json, 'transfer-encoding: chunked'], 'ffffffffffffffff\r\nx'],
  ['an unknown transfer', ['host: x', json, 'transfer-encoding: secret'], body],
  ['a compressed body', ['host: x', json, sized, 'content-encoding: gzip'], body],
  ['another charset', ['host: x', 'content-type: application/json; charset=utf-16', sized], body],
  ['a type without end', ['host: x', `content-type: application/${'a/'.repeat(500)}`, sized], body],
  ['text that is not UTF-8', ['host: x', json, 'content-length: 4'], Buffer.from([0x22, 0xff, 0xfe, 0x22])],
  ['an expectation', ['host: x', json, sized, 'expect: something'], body],
  ['an upgrade', ['host: x', 'connection: upgrade', 'upgrade: h2c']],
  ['a range', ['host: x', 'range: bytes=5-1,-', 'if-none-match: *', 'if-modified-since: never']],
  ['nothing it could accept', ['host: x', 'accept: image/png', 'accept-encoding: none', 'accept-language: \t']],
  ['a false request id', ['host: x', "x-request-id: '; drop table users; --"]],
  ['a false origin', ['host: x', 'origin: null', 'access-control-request-method: X']],
  ['a false address', ['host: x', 'x-forwarded-for: 1.2.3.4, ::1, x', 'x-forwarded-host: evil.test']],
  ['a place in the log', ['host: x', 'last-event-id: -1e999']],
];

const destructive = new Set(['logout', 'deleteCurrentUser']);
const operations = [...readContract().operations.values()].filter(({ id }) => !destructive.has(id));
const requests = operations.map(({ id, method }) => {
  const path = Object.entries(readContract().document.paths).find(([, methods]) =>
    Object.values(methods).some((operation) => operation.operationId === id),
  )?.[0];
  return `${method} ${(path ?? '').replace(/\{\w+\}/g, 'local')}`;
});

/** What comes back until the server ends the connection, or has answered and is silent. */
async function answerTo(request: string, lines: readonly string[], rest: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(rig.url);
  const socket = connect(Number(port), hostname);
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
  });
  socket.on('error', () => {});
  socket.setTimeout(300, () => socket.destroy());
  const head = [`${request} HTTP/1.1`, ...lines, `authorization: Bearer ${rig.token}`, '', ''].join('\r\n');
  socket.write(Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(rest)]));
  // Whoever promised more than came ends here.
  if (rest.length > 0) socket.end();
  await once(socket, 'close');
  return text;
}

const cases = heads.map(([what, lines, rest = '']) => [what, lines, rest] as const);

test.each(cases)('%s is an answer or an end, and never a failure, at every operation', async (_what, lines, rest) => {
  const answers = await Promise.all(
    requests.map(async (request) => [request, await answerTo(request, lines, rest)] as const),
  );
  const failures = answers.filter(([, text]) => /^HTTP\/1\.1 5(?!01)/m.test(text));
  expect(failures.map(([request, text]) => `${request}: ${text.slice(0, 500)}`)).toEqual([]);
  expect((await rig.call('GET', '/api/v0/user')).status).toBe(200);
});
