import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { signBuildToken, verifyBuildToken } from '../identity/build-token.ts';
import { makeFailureLimit } from '../identity/failure-limit.ts';
import { hashToken, isTokenShaped, newToken } from '../identity/token.ts';

describe('tokens', () => {
  test('a personal token is hm_ and 43 characters, a session 43', () => {
    expect(newToken('personal')).toMatch(/^hm_[A-Za-z0-9_-]{43}$/);
    expect(newToken('session')).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(isTokenShaped(newToken('personal'))).toBe(true);
    expect(isTokenShaped('hm_short')).toBe(false);
  });

  test('the hash is lower hex of the whole text', () => {
    expect(hashToken('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });
});

describe('build tokens', () => {
  const buildId = '11111111-1111-1111-1111-111111111111';
  const known =
    'eyJidWlsZCI6IjExMTExMTExLTExMTEtMTExMS0xMTExLTExMTExMTExMTExMSIsImV4cCI6NDEwMjQ0NDgwMH0.OH706QuIvuG76EtYgumzdrtySilx3eG7slaJav_tvAE';

  test('the known vector is signed and verified', () => {
    expect(signBuildToken('dev-log-token-secret', { buildId, expiresAtS: 4_102_444_800 })).toBe(known);
    expect(verifyBuildToken('dev-log-token-secret', known, 0)).toBe(buildId);
  });

  test('forged, foreign, expired and mangled ones are refused', () => {
    const [body = '', signature = ''] = known.split('.');
    const signed = (payload: string) => {
      const text = Buffer.from(payload).toString('base64url');
      return `${text}.${createHmac('sha256', 'dev-log-token-secret').update(text).digest('base64url')}`;
    };
    const bad = [
      '',
      '.',
      body,
      `${body}.`,
      `.${signature}`,
      `${known}.x`,
      `${known}=`,
      `${body}.${'A'.repeat(43)}`,
      `${body.slice(0, -2)}.${signature}`,
      signed('null'),
      signed('7'),
      signed('{}'),
      signed('{"build":1,"exp":9999999999}'),
      signed('{"build":"x","exp":"9999999999"}'),
      signed('no json'),
    ];
    for (const token of bad) expect([token, verifyBuildToken('dev-log-token-secret', token, 0)]).toEqual([token, null]);
    expect(verifyBuildToken('another secret', known, 0)).toBeNull();
    expect(verifyBuildToken('dev-log-token-secret', known, 4_102_444_800_000)).toBeNull();
  });
});

describe('the limit of failures', () => {
  const limit = (nowMs: () => number, maxAddresses = 3) =>
    makeFailureLimit({ burst: 2, perSecond: 0.5, maxAddresses, nowMs });

  test('a burst is allowed, then one every so often', () => {
    let nowMs = 0;
    const { record } = limit(() => nowMs);
    expect([record('a'), record('a'), record('a')]).toEqual([0, 0, 2]);
    expect(record('b')).toBe(0);
    nowMs = 1_000;
    expect(record('a')).toBe(1);
    nowMs = 2_000;
    expect([record('a'), record('a')]).toEqual([0, 2]);
    nowMs = 1_000_000;
    expect([record('a'), record('a'), record('a')]).toEqual([0, 0, 2]);
  });

  test('the addresses of one IPv6 network count together', () => {
    const { record } = limit(() => 0);
    expect([record('2001:db8::1'), record('2001:db8:0:0:9::2'), record('2001:db8::3')]).toEqual([0, 0, 2]);
    expect(record('2001:db8:0:1::1')).toBe(0);
  });

  test('the address longest unseen is forgotten first', () => {
    const { record } = limit(() => 0);
    for (const address of ['a', 'a', 'b', 'c', 'a']) record(address);
    expect(record('d')).toBe(0);
    expect(record('a')).toBe(2);
    expect([record('b'), record('b')]).toEqual([0, 0]);
  });
});
