import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { startPostgres } from '../postgres-supervisor.ts';
import { migrate } from '../store/migrate.ts';
import { describeFailure, describeRun, type SimulationSummary } from './report.ts';
import { runSeeds, type SeedsRun, seedsFrom } from './run-seeds.ts';
import { openSqlSession, type SqlSession } from './sql-session.ts';

const usage = `npm run simulate -- [--seeds N] [--from SEED] [--seed SEED] [--json] [--out FILE]

Runs the control plane against simulated time, network and hosts, one seed after the other.
  --seeds N     how many seeds (1,000)
  --from SEED   the first one (1)
  --seed SEED   one seed alone, with everything that happens in it
  --json        prints the summary as JSON
  --out FILE    writes the summary as JSON to a file
`;
const mostFailures = 5;
const progressEveryMs = 1_000;

await main();

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      ...{
        seeds: { type: 'string', default: '1000' },
        from: { type: 'string', default: '1' },
        seed: { type: 'string' },
      },
      ...{
        json: { type: 'boolean', default: false },
        out: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    },
  });
  if (values.help) return void process.stdout.write(usage);
  const alone = values.seed === undefined ? null : wholeNumber('seed', values.seed);
  const fromSeed = alone ?? wholeNumber('from', values.from);
  const count = alone === null ? wholeNumber('seeds', values.seeds) : 1;
  const startedMs = performance.now();
  const run = await withSession((session) => runAll(session, { fromSeed, count, isAlone: alone !== null }));
  const summary = await summaryOf(run, { fromSeed, seconds: (performance.now() - startedMs) / 1_000 });
  const text = `${JSON.stringify(summary, null, 2)}\n`;
  if (values.out !== undefined) await writeFile(values.out, text);
  process.stdout.write(values.json ? text : tableOf(summary));
  process.exitCode = summary.violations.length === 0 ? 0 : 1;
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  process.stderr.write(`--${name} takes a whole number, not ${JSON.stringify(text)}\n`);
  process.exit(2);
}

/** On a PostgreSQL of its own, which gives up safety against power loss for speed. */
async function withSession<T>(work: (session: SqlSession) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-simulation-'));
  const quiet = { info: () => {}, warn: () => {} };
  try {
    const postgres = await startPostgres({ dataDir: join(dir, 'postgres'), log: quiet, durable: false });
    try {
      await migrate(postgres.connectionString);
      const session = await openSqlSession(postgres.connectionString);
      return await work(session).finally(() => session.close());
    } finally {
      await postgres.stop();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

interface Wanted {
  readonly fromSeed: number;
  readonly count: number;
  readonly isAlone: boolean;
}

async function runAll(session: SqlSession, { fromSeed, count, isAlone }: Wanted): Promise<SeedsRun> {
  let done = 0;
  let shownMs = performance.now();
  const run = await runSeeds(session, seedsFrom(fromSeed, count), {
    mostFailures,
    onSeed(seed, outcome) {
      done += 1;
      if (isAlone) process.stderr.write(`${outcome.lines.join('\n')}\n${describeRun(seed, outcome)}\n`);
      if (performance.now() - shownMs < progressEveryMs) return;
      shownMs = performance.now();
      process.stderr.write(`${done} of ${count} seeds\n`);
    },
  });
  for (const { seed, shrunk } of run.failures) process.stderr.write(`\n${describeFailure(seed, shrunk)}\n`);
  return run;
}

async function summaryOf(
  { seeds, stats, failures }: SeedsRun,
  { fromSeed, seconds }: { fromSeed: number; seconds: number },
): Promise<SimulationSummary> {
  const violations = failures.map(({ seed, outcome: { violation } }) => {
    return { seed, invariant: violation?.invariant ?? '', message: violation?.message ?? '' };
  });
  const git = promisify(execFile)('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname });
  const commit = await git.then(({ stdout }) => stdout.trim()).catch(() => 'unknown');
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}`;
  return { seeds, fromSeed, ...stats, violations, seconds: Math.round(seconds * 10) / 10, commit, machine };
}

function tableOf(summary: SimulationSummary): string {
  const { violations, ...facts } = summary;
  const lines = Object.entries({ ...facts, violations: violations.length }).map(([name, value]) => {
    return `${name.padEnd(12)} ${value}`;
  });
  return `${lines.join('\n')}\n`;
}
