import { parseArgs } from 'node:util';
import { judge } from './goal.ts';
import { busyShare, currentCommit, machineFacts } from './machine-facts.ts';
import { keepResults, readLatest } from './results.ts';
import type { Bench, Row, RowResult, SeriesResult } from './row.ts';
import { rows } from './rows.ts';
import { summarise } from './statistics.ts';
import { rowLines } from './table.ts';
import { writeDocs } from './write-docs.ts';

const usage = `npm run bench -- [--only <row>[,<row>]] [--quick] [--json] [--list] [--write-docs]

  --only        measures just these rows
  --quick       a tenth of the calls: does everything work?
  --json        prints the results as JSON instead of a table
  --list        names the rows
  --write-docs  measures nothing and writes docs/performance.md, docs/reliability.md and the figures of the README from
                bench/results and e2e/promises.ts
  --remark      with --write-docs: a sentence about the circumstances, put above the tables
`;

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: [] },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    'write-docs': { type: 'boolean', default: false },
    remark: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});

const interrupted = new AbortController();
const say = (line: string) => void process.stderr.write(`${line}\n`);

if (options.help) process.stdout.write(usage);
else if (options.list) for (const { id, title } of rows) process.stdout.write(`${id.padEnd(20)} ${title}\n`);
else if (options['write-docs']) {
  const written = await writeDocs(await readLatest(), { rows, remark: options.remark });
  say(`wrote ${written.join(', ')}`);
} else await measureAll(chosenRows());

function chosenRows(): readonly Row[] {
  const wanted = options.only.flatMap((text) => text.split(',')).filter(Boolean);
  const unknown = wanted.filter((id) => !rows.some((row) => row.id === id));
  if (unknown.length > 0) {
    say(`no row is called ${unknown.join(', ')}; there are: ${rows.map(({ id }) => id).join(', ')}`);
    process.exit(2);
  }
  return wanted.length === 0 ? rows : rows.filter(({ id }) => wanted.includes(id));
}

async function measureAll(chosen: readonly Row[]): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      say('interrupted: what is under way ends and is removed');
      interrupted.abort(new Error('interrupted'));
    });
  }
  const startedAt = new Date();
  const about = { machine: await machineFacts(), commit: await currentCommit() };
  const results: RowResult[] = [];
  for (const row of chosen) {
    if (interrupted.signal.aborted) break;
    const result = await measureRow(row, about);
    // Half a row is not a measurement.
    if (interrupted.signal.aborted) break;
    results.push(result);
    if (!options.json) process.stdout.write(`${rowLines(result).join('\n')}\n\n`);
  }
  const path = await keepResults(results, startedAt);
  if (options.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  say(`kept in ${path}`);
  const isWrong = (row: RowResult) => row.error !== null || row.series.some(({ failures }) => failures > 0);
  if (interrupted.signal.aborted) process.exitCode = 130;
  else if (results.some(isWrong)) process.exitCode = 1;
  // What a failed row could not close must not keep the bench from ending.
  process.exit();
}

async function measureRow(row: Row, about: { machine: RowResult['machine']; commit: string }): Promise<RowResult> {
  const { id, title } = row;
  const result: RowResult = {
    ...{ id, title, ...about },
    goals: judged(row, [], null),
    command: `npm run bench -- --only ${id}`,
    measuredAt: new Date().toISOString(),
    isQuick: options.quick,
    busyBefore: await busyShare(),
    busyAfter: 0,
    tookS: 0,
    series: [],
    notes: [],
    skipped: row.obstacle?.() ?? null,
    error: null,
  };
  if (result.skipped !== null) return { ...result, goals: judged(row, [], result.skipped) };
  const startedMs = performance.now();
  const tookS = () => Math.round((performance.now() - startedMs) / 100) / 10;
  try {
    const { series, notes } = await row.measure(makeBench());
    const took = tookS();
    const measured = series.map(seriesResult);
    return {
      ...{ ...result, notes, series: measured, goals: judged(row, measured, null) },
      ...{ tookS: took, busyAfter: await busyShare() },
    };
  } catch (error) {
    const said = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const goals = judged(row, [], `the row failed: ${said.split('\n')[0]}`);
    return { ...result, goals, tookS: tookS(), error: said };
  }
}

function judged(row: Row, series: readonly SeriesResult[], nothingBecause: string | null): RowResult['goals'] {
  const goals = row.goals.map((goal) => judge(goal, series, nothingBecause));
  // Fewer calls may be an easier task: ten forks are not a hundred.
  return options.quick ? goals.map((goal) => ({ ...goal, verdict: 'not measured', why: 'a quick run' })) : goals;
}

function seriesResult({
  name,
  role,
  unit,
  samples,
}: Awaited<ReturnType<Row['measure']>>['series'][number]): SeriesResult {
  return { name, role, unit, summary: summarise(samples), failures: samples.failures, reasons: samples.reasons };
}

function makeBench(): Bench {
  const { quick: isQuick } = options;
  return {
    isQuick,
    count: (full) => (isQuick ? Math.max(3, Math.ceil(full / 10)) : full),
    signal: interrupted.signal,
    say: (line) => say(`  ${line}`),
  };
}
