import { createHash } from 'node:crypto';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cacheKey, resolveCache } from '../cache-key.ts';
import { hashPathsOf } from '../render/hash-paths.ts';
import { sha256Hex } from './sha256-hex.ts';
import { temporaryRepository } from './temporary-repository.ts';

function hashes(root: string, ...patterns: readonly string[]) {
  const warnings: string[] = [];
  const found = hashPathsOf(root, (message) => warnings.push(message))(patterns);
  return { found: Object.fromEntries(found.map(({ path, hash }) => [path, hash])), warnings };
}

test('a file counts by its bytes', () => {
  const root = temporaryRepository({ 'a.txt': 'hello' });
  const inputs = { command: 'x', env: {}, nowSeconds: 0, sha256Hex, hashPaths: hashPathsOf(root, () => {}) };
  const resolution = resolveCache({ policy: 'on_change', paths: ['a.txt'] }, inputs) ?? '';
  const parts = {
    organization: 'default',
    pipeline: 'default',
    stepKey: 'a',
    image: null,
    parentKey: null,
    resolution,
  };
  expect(cacheKey(parts, sha256Hex)).toBe('a8fcd8918d6ba45831556d2ef85df9672059cdba563fe21d0084f93141d56da5');
});

test('a directory counts by the names and bytes of its files, links by their target', () => {
  const root = temporaryRepository({ 'd/b/c.txt': 'C', 'd/a.txt': 'A', 'd/.git/HEAD': 'x' });
  symlinkSync('../outside', join(root, 'd/z'));
  mkdirSync(join(root, 'd/empty'));
  const expected = createHash('sha256').update('a.txt\0A\0b/c.txt\0C\0z\0../outside\0').digest('hex');
  expect(hashes(root, 'd').found).toEqual({ d: expected });
});

test('globs match files only, in every depth, and count each once', () => {
  const root = temporaryRepository({ 'a.lock': '1', 'x/b.lock': '2', 'x/y.lock/c': '3', '[odd].lock': '4' });
  const { found, warnings } = hashes(root, '**/*.lock', 'a.lock', '[odd].lock');
  expect(Object.keys(found).sort()).toEqual(['[odd].lock', 'a.lock', 'x/b.lock']);
  expect(warnings).toEqual([]);
});

test('what is missing is left out with a warning', () => {
  const { found, warnings } = hashes(temporaryRepository({ a: '' }), 'a', 'nope.txt', 'no/*.ts', 'a/b');
  expect(Object.keys(found)).toEqual(['a']);
  expect(warnings).toHaveLength(3);
  expect(warnings[0]).toContain('nope.txt');
});

test('links that loop or lead out, and what is no file, are refused', () => {
  const root = temporaryRepository({ a: '' });
  symlinkSync('loop', join(root, 'loop'));
  symlinkSync('/etc/passwd', join(root, 'out'));
  symlinkSync('/dev/zero', join(root, 'device'));
  expect(() => hashes(root, 'loop')).toThrow('it is a loop of symbolic links');
  expect(() => hashes(root, 'out')).toThrow('leads out of the repository');
  expect(() => hashes(root, 'device')).toThrow('leads out of the repository');
});
