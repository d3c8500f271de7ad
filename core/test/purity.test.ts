import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const files = ['core', 'pipeline'].flatMap((name) =>
  readdirSync(join(root, name))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => `${name}/${file}`),
);

/** The code without its comments. */
function codeOf(file: string): string {
  return readFileSync(join(root, file), 'utf8')
    .replace(/\/\*.*?\*\//gs, '')
    .replace(/^\s*\/\/.*$/gm, '');
}

test.each(files)('%s takes time, chance and the world as arguments', (file) => {
  const code = codeOf(file);
  expect(code).not.toMatch(/\bMath\.random\b|\bnew Date\b|\bDate\.now\b|\bperformance\b|\bcrypto\b|\bfetch\(/);
  // A pipeline may read the environment of its render; the rules may not.
  if (file.startsWith('core/')) expect(code).not.toMatch(/\bprocess\b|\bglobalThis\b/);
  const imported = [...code.matchAll(/\bfrom '([^']+)'|\bimport\(?\s*'([^']+)'/g)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
  for (const name of imported) {
    expect(name).toMatch(file.startsWith('core/') ? /^(\.\/|@caisson\/pipeline\/)/ : /^\.\//);
  }
});
