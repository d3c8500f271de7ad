import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { promises } from './promises.ts';

const root = join(import.meta.dirname, '..');

/** The text of a file and of all it imports from beside it. */
async function textOf(path: string, seen = new Set<string>()): Promise<string> {
  if (seen.has(path)) return '';
  seen.add(path);
  const text = await readFile(path, 'utf8');
  const imports = [...text.matchAll(/from '(\.\/[^']+)'/g)].map((match) => join(dirname(path), match[1] ?? ''));
  return [text, ...(await Promise.all(imports.map((each) => textOf(each, seen))))].join('\n');
}

test('every promise names tests that exist', async () => {
  const missing: string[] = [];
  for (const { file, title } of promises.flatMap(({ faults }) => faults)) {
    const text = await textOf(join(root, file)).catch(() => null);
    const isThere = text !== null && ["'", '"', '`'].some((quote) => text.includes(quote + title + quote));
    if (!isThere) missing.push(`${file}: ${title}`);
  }
  expect(missing).toEqual([]);
});

test('every promise has an id of its own and every fault is named once in it', () => {
  expect(new Set(promises.map(({ id }) => id)).size).toBe(promises.length);
  for (const { faults } of promises) {
    expect(faults.length).toBeGreaterThan(1);
    expect(new Set(faults.map(({ file, title }) => file + title)).size).toBe(faults.length);
  }
});
