import { sql } from 'kysely';
import { allPassed, type EngineBench, engineNote, fanOutIr, openEngineBench } from './engine-bench.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, type Samples, sample } from './statistics.ts';

const planesName = (count: number) => `${count} control plane${count > 1 ? 's' : ''}`;

/** How many committed changes of a job's state the engine makes in a second. */
export const transitions: Row = {
  id: 'transitions',
  title: 'durable job transitions per second',
  goals: [1, 3].map((count) => ({ series: planesName(count), figure: 'p50', bound: '≥', limit: 2_000 })),
  measure,
};

const builds = 12;
const ir = fanOutIr({ width: 10, length: 5, cmd: 'true' });

async function measure(bench: Bench): Promise<Measured> {
  const engines = await openEngineBench();
  const series = [];
  try {
    for (const count of [1, 3]) {
      const samples = noSamples();
      await engines.engines(count);
      await measureRound(engines, bench, { samples: noSamples(), count, builds: 2 });
      for (let round = 0; round < (bench.isQuick ? 1 : 5) && !bench.signal.aborted; round++) {
        await measureRound(engines, bench, { samples, count, builds });
      }
      series.push({ name: planesName(count), role: 'ours', unit: '/s', samples } as const);
    }
  } finally {
    await engines.end();
  }
  return {
    series,
    notes: [
      engineNote,
      `A sample is one round of ${builds} builds of 51 steps (one, then ten chains of five on its disk): events of jobs in the log of events, divided by the time from the first build’s creation to the last build’s end. Every transition is durable before it counts; those that come in together share a commit.`,
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
