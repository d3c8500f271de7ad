import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { percent } from './figure.ts';
import type { Row, RowResult } from './row.ts';
import { busyFrom, busyWith, seriesCells } from './table.ts';

const page = new URL('../docs/performance.md', import.meta.url);
const formatter = fileURLToPath(new URL('../node_modules/.bin/biome', import.meta.url));

const opening = `# Performance

Written by \`npm run bench -- --write-docs\` from the newest measurement of every row. \`npm run bench\` measures all of them on your machine (as root, since capsules need it) and prints the same tables; the command below a table repeats that table alone.

A time is kept only when the result of the call was checked and right: \`true\` exited with 0, a fork read its parent’s file, a build passed, no line of a log was missing. Everything else counts as a failure and lowers the column “ok”. Percentiles are nearest ranks, so each is a value that was measured. Baselines run in turns with ours in the same run.
`;

/** Writes `docs/performance.md` and returns its path. Throws when nothing was measured yet. */
export async function writePerformancePage(
  results: readonly RowResult[],
  { rows, remark }: { rows: readonly Row[]; remark: string },
): Promise<string> {
  const known = rows.flatMap(({ id }) => results.find((result) => result.id === id && result.skipped === null) ?? []);
  const missing = rows.filter(({ id }) => !known.some((result) => result.id === id));
  if (known.length === 0) throw new Error('nothing was measured yet: npm run bench');
  const absent = missing.map(({ id, title }) => `- ${title}: not measured yet (\`npm run bench -- --only ${id}\`)`);
  const remarks = remark === '' ? [] : [`**${remark}**\n`];
  const parts = [
    opening,
    ...remarks,
    machines(known),
    ...known.map(section),
    ...(absent.length > 0 ? [absent.join('\n')] : []),
  ];
  const path = fileURLToPath(page);
  await writeFile(path, `${parts.join('\n')}`);
  // Tables look as the repository's formatter wants them, where it formats Markdown.
  await promisify(execFile)(formatter, ['format', '--write', path]).catch(() => {});
  return path;
}

function machines(results: readonly RowResult[]): string {
  const described = new Map<string, string[]>();
  for (const { id, machine } of results) {
    const text = Object.entries(machine)
      .map(([name, value]) => `| ${name} | ${value} |`)
      .join('\n');
    described.set(text, [...(described.get(text) ?? []), id]);
  }
  return [...described]
    .map(([text, ids]) => {
      const title = described.size === 1 ? '## Machine' : `## Machine of ${ids.join(', ')}`;
      return `${title}\n\n| | |\n| --- | --- |\n${text}\n`;
    })
    .join('\n');
}

function section(row: RowResult): string {
  const head = '| | n | p50 | p95 | p99 | min | ok |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |';
  const lines = row.series.map((series) => `| ${seriesCells(series).join(' | ')} |`);
  const facts = [
    `\`${row.command}\``,
    `${row.measuredAt.slice(0, 16).replace('T', ' ')} UTC, commit ${row.commit}`,
    ...(row.isQuick ? ['**a quick run with few calls**'] : []),
    ...(busyWith(row) > busyFrom
      ? [`**on a busy machine**: other work had up to ${percent(busyWith(row))} of the processors just before or after`]
      : []),
  ];
  return [
    `## ${row.title}\n`,
    ...(row.error === null ? [] : [`**Failed:** ${row.error.split('\n')[0]}\n`]),
    `${head}\n${lines.join('\n')}\n`,
    ...row.notes.map((note) => `${note}\n`),
    `${facts.join(' · ')}\n`,
  ].join('\n');
}
