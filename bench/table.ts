import { figure, percent } from './figure.ts';
import type { JudgedGoal } from './goal.ts';
import type { RowResult, SeriesResult } from './row.ts';

const columns = ['', 'n', 'p50', 'p95', 'p99', 'min', 'ok'] as const;

/** Share of other work on the machine from which a row is marked. */
export const busyFrom = 0.1;

/** The larger share of the processors that others had just before the row and just after it. */
export function busyWith({ busyBefore, busyAfter }: RowResult): number {
  return Math.max(busyBefore, busyAfter);
}

/** A row as lines for a terminal. */
export function rowLines(row: RowResult): readonly string[] {
  const lines = [`${row.title}  [${row.id}]`];
  if (row.skipped !== null) return [...lines, `  SKIPPED: ${row.skipped}`];
  if (row.error !== null) lines.push(`  FAILED: ${row.error}`);
  const cells = [columns as readonly string[], ...row.series.map(seriesCells)];
  const widths = columns.map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)));
  for (const line of cells) {
    const padded = line.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    lines.push(`  ${padded.join('  ')}`.trimEnd());
  }
  for (const { name, reasons } of row.series) for (const reason of reasons) lines.push(`  failed: ${name}: ${reason}`);
  for (const note of row.notes) lines.push(`  note: ${note}`);
  lines.push(...row.goals.map(goalLine));
  if (busyWith(row) > busyFrom) lines.push(`  measured beside other work: ${percent(busyWith(row))} of the processors`);
  return lines;
}

function goalLine({ text, series, measured, verdict, why }: JudgedGoal): string {
  const reason = why === null ? '' : `; ${why}`;
  return `  goal: ${series}: ${text}: ${verdict.toUpperCase()}${measured === null ? '' : ` with ${measured}`}${reason}`;
}

/** Name, n, p50, p95, p99, min, success rate. */
export function seriesCells({ name, role, unit, summary, failures }: SeriesResult): readonly string[] {
  const label = role === 'ours' ? name : `${name} (${role})`;
  if (summary === null) return [label, String(failures), '–', '–', '–', '–', failures > 0 ? '0 %' : '–'];
  const { n, p50, p95, p99, min, successRate } = summary;
  return [label, String(n), ...[p50, p95, p99, min].map((value) => figure(value, unit)), percent(successRate)];
}
