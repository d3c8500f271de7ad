import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { hashKey, type KeyedStep, slug, stepKeys } from '../step-key.ts';

const sha256Hex = (text: string): string => createHash('sha256').update(text).digest('hex');
const step = (fields: Partial<KeyedStep>): KeyedStep => ({
  key: null,
  label: null,
  command: 'true',
  parent: null,
  ...fields,
});

test.each([
  ['', 'echo hi', 0, '103c16c69f21'],
  ['', 'apt-get update && apt-get install -y curl ca-certificates git', 0, '334b29e96b76'],
  ['uv-sync', 'cd services/ml && uv run pytest', 8, '847020e744bc'],
  ['uv-sync', 'cd services/ml && uv run ruff check .', 9, '6c48498afb84'],
  ['', 'apt-get update && apt-get install -y curl ca-certificates', 11, '3c2cfedcad46'],
  ['deps', 'cd web && npm run build', 14, 'a94a0f84e711'],
  ['e0b494124562', 'cd services/api && go build ./...', 2, '6f9493b7219f'],
])('parent %j, command %j at %i has the key %s', (parentKey, command, position, expected) => {
  expect(hashKey({ parentKey, command, position }, sha256Hex)).toBe(expected);
});

test.each([
  [':c: cmake-verify', 'cmake-verify'],
  [':rust: apt-base', 'apt-base'],
  ['Unit Tests (fast)', 'unit-tests-fast'],
  [':zig: . build', 'build'],
  ['--a__b--', 'a-b'],
  ['ÜBER', 'ber'],
  [':rocket:', ''],
  ['', ''],
])('%j as a key is %j', (label, expected) => {
  expect(slug(label)).toBe(expected);
});

describe('step keys', () => {
  test('prefer the own key, then a label nobody else has, then the hash', () => {
    const keys = stepKeys(
      [step({ key: 'Base!' }), step({ label: ':gear: Build' }), step({ command: 'echo hi' })],
      sha256Hex,
    );
    expect(keys).toEqual(['Base!', 'build', hashKey({ parentKey: '', command: 'echo hi', position: 2 }, sha256Hex)]);
  });

  test('give equal labels to neither, also where one of them has its own key', () => {
    const [first, second] = stepKeys([step({ label: 'test' }), step({ label: 'Test' })], sha256Hex);
    expect([first, second]).not.toContain('test');
    const [own, other] = stepKeys([step({ key: 'x', label: 'test' }), step({ label: 'test' })], sha256Hex);
    expect([own, other === 'test']).toEqual(['x', false]);
  });

  test('reserve an explicit key against labels', () => {
    const [labelled, explicit] = stepKeys([step({ label: 'test' }), step({ key: 'test' })], sha256Hex);
    expect([labelled === 'test', explicit]).toEqual([false, 'test']);
  });

  test('hash the key of the direct parent, which is empty behind a fork', () => {
    const steps = [
      step({ command: 'apt-get update && apt-get install -y curl ca-certificates git' }),
      step({ command: 'a', parent: 0 }),
      step({ command: 'a' }),
    ];
    const [root, child, fork] = stepKeys(steps, sha256Hex);
    expect(root).toBe('334b29e96b76');
    expect(child).toBe(sha256Hex('334b29e96b76\0a\x001').slice(0, 12));
    expect(fork).toBe(sha256Hex('\0a\x002').slice(0, 12));
  });
});
