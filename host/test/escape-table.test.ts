import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type EscapeCase, escapeCases } from './hostile-cases.ts';

const page = join(import.meta.dirname, '../../docs/isolation.md');

it('docs/isolation.md lists every attack that is tried', async () => {
  const text = await readFile(page, 'utf8');
  const start = text.search(/^\| Group +\| A capsule cannot +\|$/m);
  const table = text.slice(start, text.indexOf('\n\n', start));
  expect(withoutPadding(table), `the table has to be\n${expectedTable()}`).toBe(expectedTable());
});

it('every attack has a name of its own', () => {
  expect(new Set(escapeCases.map(({ attack }) => attack)).size).toBe(escapeCases.length);
});

function expectedTable(): string {
  const groups = Map.groupBy(escapeCases, ({ group }) => group);
  const rows = [...groups].map(([group, cases]) => `| ${group} | ${cases.map(nameOf).join('; ')} |`);
  return ['| Group | A capsule cannot |', '|---|---|', ...rows].join('\n');
}

/** Those that hold for every driver carry a dagger. */
function nameOf({ attack, everyDriver }: EscapeCase): string {
  return everyDriver ? `${attack} †` : attack;
}

function withoutPadding(table: string): string {
  return table
    .split('\n')
    .map((line) => line.replace(/\s*\|\s*/g, ' | ').trim())
    .map((line) => (/^\|[\s|-]+\|$/.test(line) ? '|---|---|' : line))
    .join('\n');
}
