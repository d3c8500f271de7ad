import { figure } from './figure.ts';
import { markdownTable } from './markdown-table.ts';
import type { RowResult, SeriesResult } from './row.ts';
import { busyFrom, busyWith } from './table.ts';

/** What a reader of the README wants to know first, in this order: the row's first series of ours unless one is named. */
const chosen: readonly { id: string; what: string; which: 'p50' | 'p95'; series?: string }[] = [
  {
    ...{ id: 'create-exec', series: 'from a warm pool, own loopback only', which: 'p50' },
    what: 'a capsule asked for → its first command answered',
  },
  { id: 'parent-to-child', what: 'a step passed → first output of the step on its disk', which: 'p50' },
  { id: 'log-latency', what: 'a line written in a capsule → seen by a client', which: 'p95', series: '10,000 lines/s' },
  {
    id: 'hello',
    what: '`caisson run examples/hello` beside `caisson up`, without its commands’ own time',
    which: 'p50',
  },
  { id: 'memory', what: 'memory of an idle Caisson with its PostgreSQL', which: 'p50' },
];

/** The table of figures of the README with the machine and the command; says what is missing. */
export function readmeFigures(results: readonly RowResult[]): string {
  const lines = chosen.flatMap((choice) =>
    lineOf(
      choice,
      results.find(({ id }) => id === choice.id),
    ),
  );
  const machine = results.find(({ id }) => id === chosen[0]?.id)?.machine;
  const shown = results.filter((row) => chosen.some(({ id }) => id === row.id));
  const isBusy = shown.some((row) => busyWith(row) > busyFrom);
  const isQuick = shown.some((row) => row.isQuick);
  const about =
    machine === undefined
      ? ''
      : `On ${machine.cores} cores (${machine.cpu}), ${machine.memory}, ${machine.system}${isBusy ? ', **while others used them too**' : ''}${isQuick ? ', **with few calls**' : ''}. `;
  return `${markdownTable(['', '', '', 'in comparison'], lines)}

${about}\`npm run bench\` measures all of it on your machine; [docs/performance.md](docs/performance.md) has every figure with n, percentiles, success rate and the goals it missed.`;
}

function lineOf(
  { what, which, series }: (typeof chosen)[number],
  row: RowResult | undefined,
): readonly (readonly string[])[] {
  const own = row?.series.find(({ name, role }) => role === 'ours' && (series === undefined || name === series));
  if (!row || !own?.summary) return [[what, which, 'not measured', '']];
  return [[what, which, figure(own.summary[which], own.unit), compared(row.series)]];
}

function compared(series: readonly SeriesResult[]): string {
  const found = series.filter(({ role, summary }) => role === 'baseline' && summary !== null);
  return found
    .map(({ name, unit, summary }) => `\`${name.split(',')[0]}\` ${figure(summary?.p50 ?? 0, unit)}`)
    .join(', ');
}
