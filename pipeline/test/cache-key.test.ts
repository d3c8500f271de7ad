import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { type CacheInputs, type CacheKeyParts, type CachePolicy, cacheKey, resolveCache } from '../cache-key.ts';

const sha256Hex = (text: string): string => createHash('sha256').update(text).digest('hex');
const inputs: CacheInputs = { command: 'echo hi', env: {}, nowSeconds: 7200, hashPaths: () => [], sha256Hex };

function keyOf(
  policy: CachePolicy,
  parts: Partial<CacheKeyParts> = {},
  more: Partial<CacheInputs> = {},
): string | null {
  const resolution = resolveCache(policy, { ...inputs, ...more });
  if (resolution === null) return null;
  const named = { organization: 'default', pipeline: 'default', stepKey: 'a', image: null, parentKey: null };
  return cacheKey({ ...named, ...parts, resolution }, sha256Hex);
}

const hello = { hashPaths: () => [{ path: 'f', hash: sha256Hex('hello') }] };

test.each([
  ['forever, flat', keyOf({ policy: 'forever' }), 'ee721d3edfb21e357de919854fc55726dcd9f50fec3f417e800a7407d174001c'],
  [
    'forever, graph',
    keyOf({ policy: 'forever' }, { image: '' }),
    '699a74c52ae57877290f09ea576715568d70ce7ed0ec6ef601aefca205ea3fb3',
  ],
  [
    'forever, graph with an image',
    keyOf({ policy: 'forever' }, { image: 'ubuntu:24.04' }),
    '246e31926c2a4004dcf7108974d027d5d9fbccfe78edb8a228c2358737fb9c1f',
  ],
  [
    'ttl, flat',
    keyOf({ policy: 'ttl', duration_seconds: 3600 }, {}, { command: 'x' }),
    '65bbfbf835b70b20066db64d5c420d8b0efd11b66dba0a9ed89446e1e9d8cef8',
  ],
  [
    'on_change of one file, flat',
    keyOf({ policy: 'on_change', paths: ['f'] }, {}, hello),
    'a8fcd8918d6ba45831556d2ef85df9672059cdba563fe21d0084f93141d56da5',
  ],
])('%s has its known key', (_name, key, expected) => {
  expect(key).toBe(expected);
});

test('a child hangs on the key of its parent', () => {
  const project = { organization: 'acme', pipeline: 'ci' };
  const base = keyOf(
    { policy: 'ttl', duration_seconds: 86_400, env_keys: [] },
    { ...project, stepKey: 'base', image: 'ubuntu:24.04' },
    { command: 'apt-get update && apt-get install -y make', nowSeconds: 1_750_000_000 },
  );
  expect(base).toBe('3dcfca7073b0e9afd1a299174b95a391db27b310fae1a6c303c1a8f1bf280589');
  const lockFile = { hashPaths: () => [{ path: 'package-lock.json', hash: sha256Hex('{}\n') }] };
  const policy = { policy: 'on_change', paths: ['package-lock.json'] } as const;
  const deps = keyOf(policy, { ...project, stepKey: 'deps', image: '', parentKey: base }, lockFile);
  expect(deps).toBe('7eb68fc6db63ace700f4427e0ca201600e5c7bcc8083dcb97513f62a23717615');
});

test('none resolves to nothing, and to the word inside a composition', () => {
  expect(resolveCache({ policy: 'none' }, inputs)).toBeNull();
  const composed = resolveCache(
    { policy: 'compose', sub_policies: [{ policy: 'none' }, { policy: 'forever' }] },
    inputs,
  );
  expect(composed).toBe(`compose-${sha256Hex(`none${resolveCache({ policy: 'forever' }, inputs)}`)}`);
});

test('env names are sorted by code point and count as empty when unset', () => {
  const env = { b: '2', '\u{1f600}': 'x', '\uffff': 'y' };
  const resolution = resolveCache(
    { policy: 'forever', env_keys: ['\u{1f600}', 'b', '\uffff', 'a', 'constructor'] },
    { ...inputs, env },
  );
  expect(resolution).toBe(`forever-${sha256Hex('echo hi\0a=\0b=2\0constructor=\0\uffff=y\0\u{1f600}=x\0')}`);
});

test('paths count in sorted order whatever order they come in', () => {
  const paths = [
    { path: 'b', hash: '2' },
    { path: 'a', hash: '1' },
  ];
  const resolve = (list: typeof paths) =>
    resolveCache({ policy: 'on_change', paths: [] }, { ...inputs, hashPaths: () => list });
  expect(resolve(paths)).toBe(`sha-${sha256Hex('1\x002\0')}`);
  expect(resolve([...paths].reverse())).toBe(resolve(paths));
});

test('a ttl changes with its bucket', () => {
  const at = (nowSeconds: number) => resolveCache({ policy: 'ttl', duration_seconds: 60 }, { ...inputs, nowSeconds });
  expect(at(59)).toBe(at(0));
  expect(at(60)).not.toBe(at(59));
});
