import { sql } from 'kysely';
import type { Database } from '../server/store/database.ts';
import { needsRoot } from './capsules.ts';
import { allPassed, engineNote, fanOutIr, openEngineBench } from './engine-bench.ts';
import { localNote, openLocal } from './local.ts';
import { runToEnd } from './program.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples, sample, timeMs } from './statistics.ts';

const width = 50;
const gapName = 'a job’s prerequisites passed → it starts';

/** What the control plane adds to each of very many jobs. */
export const largeBuild: Row = {
  id: 'large-build',
  title: '1,000-job build, fan-out 50, scripted host',
  goals: [{ series: gapName, figure: 'p50', bound: '≤', limit: 100 }],
  measure: measureScripted,
};

/** The same with real capsules, beside a shell script. */
export const largeBuildReal: Row = {
  id: 'large-build-real',
  title: '200-job build, fan-out 50, real capsules',
  goals: [],
  obstacle: needsRoot,
  measure: measureReal,
};

async function measureScripted(bench: Bench): Promise<Measured> {
  const length = bench.isQuick ? 4 : 20;
  const engines = await openEngineBench();
  const [gaps, wall] = [noSamples(), noSamples()];
  try {
    const [plane] = await engines.engines(1);
    for (let round = 0; round < (bench.isQuick ? 1 : 3) && !bench.signal.aborted; round++) {
      await sample(wall, async () => {
        let ids: readonly string[] = [];
        const tookMs = await timeMs(async () => {
          ids = (await plane?.build(fanOutIr({ width, length, cmd: 'true' }), 1)) ?? [];
          await allPassed(engines.db, ids, bench.signal);
        });
        await readGaps(engines.db, { buildId: ids[0] ?? '', jobs: width * length + 1 }, gaps);
        return tookMs / (width * length + 1);
      });
    }
  } finally {
    await engines.end();
  }
  return {
    series: [
      { name: gapName, role: 'ours', unit: 'ms', samples: gaps },
      { name: 'whole build ÷ jobs', role: 'part', unit: 'ms', samples: wall },
    ],
    notes: [
      engineNote,
      `One step, then ${width} chains of ${length} steps that start from its disk: ${width} jobs are under way at any time.`,
    ],
  };
}

async function readGaps(
  db: Database,
  { buildId, jobs }: { buildId: string; jobs: number },
  samples: Samples,
): Promise<void> {
  const { rows } = await sql<{ gap_ms: number | null }>`
    select (extract(epoch from job.started_at - parent.finished_at) * 1000)::float8 as gap_ms
    from jobs job join jobs parent on parent.id = job.builds_in where job.build_id = ${buildId}`.execute(db);
  for (const { gap_ms: gapMs } of rows) {
    if (gapMs === null) addFailure(samples, new Error('a time was not recorded'));
    else samples.values.push(gapMs);
  }
  for (let index = rows.length + 1; index < jobs; index++) addFailure(samples, new Error('a job is missing'));
}

const command = 'i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo $i';

async function measureReal(bench: Bench): Promise<Measured> {
  const length = bench.isQuick ? 1 : 4;
  const jobs = width * length + 1;
  const [ours, script] = [noSamples(), noSamples()];
  const local = await openLocal(bench.say);
  try {
    for (let round = 0; round < (bench.isQuick ? 1 : 3) && !bench.signal.aborted; round++) {
      await sample(ours, async () => {
        const ms = await timeMs(async () =>
          local.passed(await local.build(fanOutIr({ width, length, cmd: command })), bench.signal),
        );
        return ms / jobs;
      });
      const loop = `for n in $(seq ${jobs}); do test "$(bash -c '${command}')" = 1000 || exit 1; done`;
      await sample(script, async () => (await timeMs(() => runToEnd(['bash', '-c', loop]))) / jobs);
    }
  } finally {
    await local.end();
  }
  return {
    series: [
      { name: 'Caisson, whole build ÷ jobs', role: 'ours', unit: 'ms', samples: ours },
      { name: 'shell script, one command after the other ÷ jobs', role: 'baseline', unit: 'ms', samples: script },
    ],
    notes: [
      localNote,
      `${jobs} jobs: one, then ${width} chains of ${length}. The command counts to 1,000 in bash. As many run at once as the host has room for.`,
    ],
  };
}
