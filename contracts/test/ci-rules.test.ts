import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { base64UrlOf, bytesOfBase64Url } from '../base64url.ts';
import { readLogToken, signLogToken } from '../ci/log-token.ts';
import { decodeCursor, encodeCursor, pageLimit } from '../ci/pagination.ts';
import { repoNameOf } from '../ci/repo-name.ts';
import { slugOf } from '../ci/slugs.ts';

const end = { createdAt: '2026-01-02T03:04:05.678901Z', id: '11111111-1111-1111-1111-111111111111' };
const cursor = 'MjAyNi0wMS0wMlQwMzowNDowNS42Nzg5MDFaADExMTExMTExLTExMTEtMTExMS0xMTExLTExMTExMTExMTExMQ';
const token =
  'eyJidWlsZCI6IjExMTExMTExLTExMTEtMTExMS0xMTExLTExMTExMTExMTExMSIsImV4cCI6NDEwMjQ0NDgwMH0.OH706QuIvuG76EtYgumzdrtySilx3eG7slaJav_tvAE';
const grant = { buildId: '11111111-1111-1111-1111-111111111111', expiresAtS: 4_102_444_800 };

function hmacWith(secret: string) {
  return (text: string) => createHmac('sha256', secret).update(text).digest();
}
const hmac = hmacWith('dev-log-token-secret');

test('the cursor is spelled as on the wire and read back', () => {
  expect(encodeCursor(end)).toBe(cursor);
  expect(decodeCursor(cursor)).toEqual({ ok: true, after: end });
});

test('no cursor is the first page', () => {
  expect(decodeCursor(undefined)).toEqual({ ok: true, after: null });
  expect(decodeCursor('')).toEqual({ ok: true, after: null });
});

test.each([
  ['noise', 'not a cursor'],
  ['a cut one', cursor.slice(0, -3)],
  ['padding', `${cursor}==`],
  ['no id', base64UrlOf(Buffer.from('2026-01-02T03:04:05.678901Z'))],
  ['an id that is none', base64UrlOf(Buffer.from(`${end.createdAt}\0x'; drop`))],
  ['a day that is none', base64UrlOf(Buffer.from(`2026-13-02T03:04:05.678901Z\0${end.id}`))],
  ['a day its month does not have', base64UrlOf(Buffer.from(`2026-02-31T03:04:05.678901Z\0${end.id}`))],
  ['bytes that are no text', base64UrlOf(Uint8Array.from([255, 254, 0, 128]))],
])('a bad cursor is refused: %s', (_what, text) => {
  expect(decodeCursor(text)).toEqual({ ok: false });
});

test.each([
  [undefined, 50],
  ['', 50],
  ['abc', 50],
  ['1.5', 50],
  ['0', 1],
  ['-7', 1],
  ['7', 7],
  [7, 7],
  ['100', 100],
  ['101', 100],
  ['99999999999999999999999', 100],
])('a limit of %s gives %i entries', (raw, expected) => {
  expect(pageLimit(raw)).toBe(expected);
});

test('the log token is spelled as on the wire and read back', () => {
  expect(signLogToken(grant, hmac)).toBe(token);
  expect(readLogToken(token, hmac, 0)).toEqual(grant);
});

test('an expired log token is none', () => {
  expect(readLogToken(token, hmac, grant.expiresAtS * 1000 - 1)).toEqual(grant);
  expect(readLogToken(token, hmac, grant.expiresAtS * 1000)).toBeNull();
});

test.each([
  ['another secret', signLogToken(grant, hmacWith('other'))],
  ['a changed payload', token.replace('eyJi', 'eyJj')],
  ['a changed signature', `${token.slice(0, -1)}A`],
  ['no signature', token.split('.')[0] ?? ''],
  ['an empty signature', `${token.split('.')[0]}.`],
  ['a third part', `${token}.x`],
  ['nothing', ''],
])('a log token that is not genuine is none: %s', (_what, text) => {
  expect(readLogToken(text, hmac, 0)).toBeNull();
});

test('a signed payload that grants nothing is none', () => {
  for (const json of ['null', '[]', '{"build":1,"exp":2}', '{"build":"x"}', 'x']) {
    const payload = base64UrlOf(Buffer.from(json));
    expect(readLogToken(`${payload}.${base64UrlOf(hmac(payload))}`, hmac, 0)).toBeNull();
  }
});

test('base64url has no padding and one spelling', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  expect(bytesOfBase64Url(base64UrlOf(bytes))).toEqual(bytes);
  expect(base64UrlOf(bytes)).toBe(Buffer.from(bytes).toString('base64url'));
  expect(bytesOfBase64Url('QQ')).toEqual(Uint8Array.of(65));
  for (const other of ['QR', 'QQ==', 'Q', 'Q+', 'Q Q']) expect(bytesOfBase64Url(other)).toBeNull();
});

test.each([
  ['https://git.example.org/acme/widget.git', 'acme/widget'],
  ['https://user:secret@git.example.org:8443/acme/widget/', 'acme/widget'],
  ['git@git.example.org:acme/widget.git', 'acme/widget'],
  ['ssh://git@git.example.org:2222/acme/widget.git', 'acme/widget'],
  ['https://git.example.org/group/sub/widget', 'sub/widget'],
  ['https://git.example.org/acme/widget?ref=x#y', 'acme/widget'],
  [' https://git.example.org/Acme/Widget ', 'Acme/Widget'],
  ['https://git.example.org/widget', null],
  ['https://git.example.org', null],
  ['', null],
])('the repository of %s is %s', (cloneUrl, expected) => {
  expect(repoNameOf(cloneUrl)).toBe(expected);
});

test.each([
  ['Deploy to Production!', 'deploy-to-production'],
  ['--a__b--', 'a-b'],
  ['ÄÖ x', 'x'],
  ['ci', 'ci'],
  ['日本', ''],
])('the slug of %s is %s', (name, expected) => {
  expect(slugOf(name)).toBe(expected);
});
