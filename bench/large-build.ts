import { sql } from 'kysely';
import type { Database } from '../server/store/database.ts';
import { needsRoot } from './capsules.ts';
import { allPassed, engineNote, fanOutIr, openEngineBench } from './engine-bench.ts';
import { localNote, openLocal } from './local.ts';
import { runToEnd } from './program.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples, sample, timeMs } from './statistics.ts';

const width = 50;
const scriptName = 'shell script, one command after the other ÷ jobs';
const [startName, endName] = [
  'each job: lease taken → command started',
  'each job: last output → capsule gone, disk sealed, passed',
];
const whenMissed = (p50Of: (series: string) => string) =>
  `each job takes ${p50Of(startName)} to start and ${p50Of(endName)} to end on its host, several at a time on the same processors`;
const overheadName = 'Caisson, whole build minus the script ÷ jobs';
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
  title: '1,000-job build, fan-out 50, real capsules',
  goals: [{ series: overheadName, figure: 'p50', bound: '≤', limit: 100, whenMissed }],
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
  const length = bench.isQuick ? 1 : 20;
  const jobs = width * length + 1;
  const [overhead, whole, script] = [noSamples(), noSamples(), noSamples()];
  const stages = { start: noSamples(), end: noSamples() };
  const loop = `for n in $(seq ${jobs}); do test "$(bash -c '${command}')" = 1000 || exit 1; done`;
  const local = await openLocal(bench.say);
  try {
    for (let round = 0; round < (bench.isQuick ? 1 : 2) && !bench.signal.aborted; round++) {
      const scriptMs = await timeMs(() => runToEnd(['bash', '-c', loop]));
      script.values.push(scriptMs / jobs);
      await sample(overhead, async () => {
        const build = await local.build(fanOutIr({ width, length, cmd: command }));
        const ms = await timeMs(() => local.passed(build, bench.signal));
        await readStages(local.db, { buildId: build.id, jobs }, stages);
        whole.values.push(ms / jobs);
        return (ms - scriptMs) / jobs;
      });
    }
  } finally {
    await local.end();
  }
  const part = (name: string, samples: Samples) => ({ name, role: 'part', unit: 'ms', samples }) as const;
  return {
    series: [
      { name: overheadName, role: 'ours', unit: 'ms', samples: overhead },
      part('whole build ÷ jobs', whole),
      part(startName, stages.start),
      part(endName, stages.end),
      { name: scriptName, role: 'baseline', unit: 'ms', samples: script },
    ],
    notes: [
      localNote,
      `${jobs} jobs: one, then ${width} chains of ${length}. The command counts to 1,000 in bash and prints it, which every job’s log has to show. As many run at once as the host has room for; the script runs one after the other without any capsule.`,
    ],
  };
}

/** What each job spends on its host besides its command; throws unless all ran and printed what they had to. */
async function readStages(
  db: Database,
  { buildId, jobs }: { buildId: string; jobs: number },
  { start, end }: { start: Samples; end: Samples },
): Promise<void> {
  const { rows } = await sql<{ start_ms: number; end_ms: number; said: string }>`
    select (extract(epoch from job.started_at - lease.acquired_at) * 1000)::float8 as start_ms,
      (extract(epoch from job.finished_at - output.at) * 1000)::float8 as end_ms, output.said
    from jobs job join leases lease on lease.job_id = job.id join lateral (
      select max(at) as at, string_agg(convert_from(content, 'utf8'), '' order by seq) as said
      from log_chunks where job_id = job.id and stream <> 2) output on true
    where job.build_id = ${buildId}`.execute(db);
  const right = rows.filter(({ said }) => said === '1000\n');
  if (right.length !== jobs) throw new Error(`${right.length} of ${jobs} jobs ran once and printed what they had to`);
  for (const { start_ms: startMs, end_ms: endMs } of right) {
    start.values.push(startMs);
    end.values.push(endMs);
  }
}
