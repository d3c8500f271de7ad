import { sql } from 'kysely';
import { bareChangesPerSecond, bareConnections } from './bare-postgres.ts';
import { allPassed, type EngineBench, engineNote, fanOutIr, openEngineBench } from './engine-bench.ts';
import type { Bench, Measured, Row, Series } from './row.ts';
import { noSamples, type Samples, sample } from './statistics.ts';

const planesName = (count: number) => `${count} control plane${count > 1 ? 's' : ''}`;

const bareName = `bare PostgreSQL, a commit per change, ${bareConnections} connections`;
const whenMissed = (p50Of: (series: string) => string) =>
  `the same PostgreSQL makes ${p50Of(bareName)} of the smallest durable changes when nothing else runs`;

/** How many committed changes of a job's state the engine makes in a second. */
export const transitions: Row = {
  id: 'transitions',
  title: 'durable job transitions per second',
  goals: [1, 3].map((count) => ({ series: planesName(count), figure: 'p50', bound: '≥', limit: 2_000, whenMissed })),
  measure,
};

const builds = 12;
const ir = fanOutIr({ width: 10, length: 5, cmd: 'true' });

async function measure(bench: Bench): Promise<Measured> {
  const engines = await openEngineBench();
  const series: Series[] = [];
  const bare = noSamples();
  try {
    for (const count of [1, 3]) {
      const samples = noSamples();
      await engines.engines(count);
      await measureRound(engines, bench, { samples: noSamples(), count, builds: 2 });
      for (let round = 0; round < (bench.isQuick ? 1 : 5) && !bench.signal.aborted; round++) {
        await measureRound(engines, bench, { samples, count, builds });
      }
      series.push({ name: planesName(count), role: 'ours', unit: '/s', samples });
    }
    for (let round = 0; round < (bench.isQuick ? 1 : 3); round++) {
      await sample(bare, () => bareChangesPerSecond(engines.connectionString));
    }
    series.push({ name: bareName, role: 'baseline', unit: '/s', samples: bare });
  } finally {
    await engines.end();
  }
  return {
    series,
    notes: [
      engineNote,
      `A sample is one round of ${builds} builds of 51 steps (one, then ten chains of five on its disk): events of jobs in the log of events, divided by the time from the first build’s creation to the last build’s end. Every transition is durable before it counts; those that come in together share a commit.`,
      'Bare: clients in the process of the bench that update a row of their own and insert another, in one statement and one commit.',
    ],
  };
}

async function measureRound(
  { db, engines }: EngineBench,
  { signal }: Bench,
  { samples, count, builds }: { samples: Samples; count: number; builds: number },
): Promise<void> {
  const planes = await engines(count);
  const before = await jobEvents(db);
  const startedMs = performance.now();
  await sample(samples, async () => {
    const share = Math.ceil(builds / planes.length);
    const ids = await Promise.all(planes.map((plane) => plane.build(ir, share)));
    await allPassed(db, ids.flat(), signal);
    return ((await jobEvents(db)) - before) / ((performance.now() - startedMs) / 1_000);
  });
}

async function jobEvents(db: EngineBench['db']): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*) from events where kind like 'job.%'`.execute(db);
  return rows[0]?.count ?? 0;
}
