import { figure, percent } from './figure.ts';
import type { JudgedGoal } from './goal.ts';
import { markdownTable } from './markdown-table.ts';
import type { Row, RowResult } from './row.ts';
import { busyFrom, busyWith, seriesCells } from './table.ts';

const opening = `# Performance

Written by \`npm run bench -- --write-docs\` from the newest measurement of every row. \`npm run bench\` measures all of them on your machine (as root, since capsules need it; it installs podman to compare with) and prints the same tables; the command below a table repeats that table alone.

A time is kept only when the result of the call was checked and right: \`true\` exited with 0, a fork read its parent’s file, a build passed, no line of a log was missing. Everything else counts as a failure and lowers the column “ok”. Percentiles are nearest ranks, so each is a value that was measured. Baselines run in turns with ours in the same run. The program compares goals with these numbers; a call that failed makes its goal a miss.
`;

/** The text of `docs/performance.md`. Throws when nothing was measured yet. */
export function performancePage(
  results: readonly RowResult[],
  { rows, remark }: { rows: readonly Row[]; remark: string },
): string {
  const known = rows.flatMap(({ id }) => results.find((result) => result.id === id && result.skipped === null) ?? []);
  const missing = rows.filter(({ id }) => !known.some((result) => result.id === id));
  if (known.length === 0) throw new Error('nothing was measured yet: npm run bench');
  const absent = missing.map(({ id, title }) => `- ${title}: not measured yet (\`npm run bench -- --only ${id}\`)`);
  return [
    opening,
    ...(remark === '' ? [] : [`**${remark}**\n`]),
    summary(known),
    machines(known),
    ...known.map(section),
    ...(absent.length > 0 ? [absent.join('\n')] : []),
  ].join('\n');
}

function summary(results: readonly RowResult[]): string {
  const lines = results.flatMap((row) => row.goals.map((goal) => ({ row, goal })));
  const cells = lines.map(({ row, goal }) => [
    `${row.title}: ${goal.series}`,
    goal.text,
    goal.measured ?? '–',
    baselines(row),
    `${goal.verdict === 'reached' ? 'reached' : `**${goal.verdict}**`}${mark(row)}`,
  ]);
  const misses = lines.filter(({ goal }) => goal.verdict !== 'reached').map(({ row, goal }) => missLine(row, goal));
  const busy = results.some((row) => mark(row) !== '') ? ['¹ measured while others used the same processors.\n'] : [];
  return [
    '## Goals\n',
    `${markdownTable(['Figure', 'Goal', 'Measured', 'Baseline, p50', 'Reached?'], cells)}\n`,
    ...busy,
    ...(misses.length > 0 ? [`What was not reached:\n\n${misses.join('\n')}\n`] : []),
  ].join('\n');
}

function missLine({ title }: RowResult, { series, text, measured, verdict, why }: JudgedGoal): string {
  const end = verdict === 'missed' ? `${measured ?? 'nothing'} instead of ${text}` : `${text} was not judged`;
  return `- ${title}: ${series}: ${end}${why === null ? '' : `; ${why}`}.`;
}

function baselines({ series }: RowResult): string {
  const found = series.filter(({ role, summary }) => role === 'baseline' && summary !== null);
  return found.map(({ name, unit, summary }) => `${name}: ${figure(summary?.p50 ?? 0, unit)}`).join('; ') || '–';
}

/** A small sign behind a verdict that others may have spoilt. */
function mark(row: RowResult): string {
  return busyWith(row) > busyFrom ? ' ¹' : '';
}

function machines(results: readonly RowResult[]): string {
  const described = new Map<string, string[]>();
  for (const { id, machine } of results) {
    const text = markdownTable(['', ''], Object.entries(machine));
    described.set(text, [...(described.get(text) ?? []), id]);
  }
  return [...described]
    .map(([text, ids]) => `${described.size === 1 ? '## Machine' : `## Machine of ${ids.join(', ')}`}\n\n${text}\n`)
    .join('\n');
}

function section(row: RowResult): string {
  const goals = row.goals.map(({ series, text, verdict }) => `${series}: ${text} (${verdict})`);
  const facts = [
    `\`${row.command}\``,
    `${row.measuredAt.slice(0, 16).replace('T', ' ')} UTC, commit ${row.commit}, took ${Math.round(row.tookS)} s`,
    ...(row.isQuick ? ['**a quick run with few calls**'] : []),
    ...(busyWith(row) > busyFrom
      ? [`**on a busy machine**: other work had up to ${percent(busyWith(row))} of the processors just before or after`]
      : []),
  ];
  return [
    `## ${row.title}\n`,
    ...(row.error === null ? [] : [`**Failed:** ${row.error.split('\n')[0]}\n`]),
    ...(goals.length === 0 ? [] : [`Goal: ${goals.join('; ')}.\n`]),
    `${markdownTable(['', 'n', 'p50', 'p95', 'p99', 'min', 'ok'], row.series.map(seriesCells))}\n`,
    ...row.notes.map((note) => `${note}\n`),
    `${facts.join(' · ')}\n`,
  ].join('\n');
}
