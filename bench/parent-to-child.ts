import { sql } from 'kysely';
import { followJobLog } from '../contracts/follow-job-log.ts';
import { needsRoot } from './capsules.ts';
import { chainIr, type Local, type LocalBuild, localNote, openLocal } from './local.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples } from './statistics.ts';

const clockName = 'by the clock of the host';
const startName = 'lease taken → command started (capsule made)';

/** What lies between a step and the one that starts from its disk. */
export const parentToChild: Row = {
  id: 'parent-to-child',
  title: 'parent passed → first output byte of its child',
  goals: [
    {
      ...{ series: clockName, figure: 'p50', bound: '≤', limit: 80 },
      whenMissed: (p50Of) => `making the child’s capsule takes ${p50Of(startName)} of it`,
    },
  ],
  obstacle: needsRoot,
  measure,
};

const steps = 30;

async function measure(bench: Bench): Promise<Measured> {
  const local = await openLocal(bench.say);
  const gaps = stagesOf();
  const seen = noSamples();
  try {
    for (let index = 0; index < 3; index++) await chainBuild(local, bench, 2);
    for (let round = 0; round < (bench.isQuick ? 1 : 4) && !bench.signal.aborted; round++) {
      await readGaps(local, await chainBuild(local, bench, steps), gaps);
      await watchChain(local, bench, seen);
    }
  } finally {
    await local.end();
  }
  const part = (name: string, samples: Samples) => ({ name, role: 'part', unit: 'ms', samples }) as const;
  return {
    series: [
      { name: clockName, role: 'ours', unit: 'ms', samples: gaps.whole },
      { name: 'by an SSE client', role: 'ours', unit: 'ms', samples: seen },
      part('before: last output → capsule gone, disk sealed, passed', gaps.ending),
      part('passed → scheduled (message stored, build advanced)', gaps.store),
      part('scheduled → lease taken (placed)', gaps.place),
      part('lease taken → handed to the host', gaps.dispatch),
      part(startName, gaps.start),
      part('command started → first output', gaps.output),
    ],
    notes: [
      localNote,
      `A chain of ${steps} steps of \`echo\`, each on the disk of the one before. Host clock: \`finished_at\` of the parent, which the host writes when the parent’s capsule is gone and its disk sealed, to the time of the child’s first output. SSE: the parent’s \`done\` frame to the child’s first chunk; every job has its reader from the start.`,
    ],
  };
}

function stagesOf() {
  const names = ['whole', 'ending', 'store', 'place', 'dispatch', 'start', 'output'] as const;
  return Object.fromEntries(names.map((name) => [name, noSamples()])) as Record<(typeof names)[number], Samples>;
}

async function chainBuild(local: Local, { signal }: Bench, length: number): Promise<LocalBuild> {
  const build = await local.build(chainIr(Array.from({ length }, (_, index) => `echo step ${index}`)));
  await local.passed(build, signal);
  return build;
}

/** What the tables say about each step of a chain; all times are of this machine's one clock. */
async function readGaps({ db }: Local, { id }: LocalBuild, gaps: ReturnType<typeof stagesOf>): Promise<void> {
  const ms = (name: string) => sql<number>`(extract(epoch from ${sql.ref(name)}) * 1000)::float8`;
  const { rows } = await sql<Record<string, number | null>>`
    select ${ms('parent.finished_at')} as passed, ${ms('job.scheduled_at')} as scheduled,
      ${ms('lease.acquired_at')} as acquired, ${ms('lease.dispatched_at')} as dispatched, ${ms('job.started_at')} as started,
      (select min(extract(epoch from at) * 1000)::float8 from log_chunks where job_id = job.id and stream <> 2) as first_output,
      (select max(extract(epoch from at) * 1000)::float8 from log_chunks where job_id = parent.id and stream <> 2) as last_output
    from jobs job join jobs parent on parent.id = job.builds_in join leases lease on lease.job_id = job.id
    where job.build_id = ${id} order by job.position`.execute(db);
  if (rows.length !== steps - 1) throw new Error(`${rows.length} of ${steps - 1} steps were recorded`);
  for (const row of rows) {
    add(gaps.whole, row.passed, row.first_output);
    add(gaps.ending, row.last_output, row.passed);
    add(gaps.store, row.passed, row.scheduled);
    add(gaps.place, row.scheduled, row.acquired);
    add(gaps.dispatch, row.acquired, row.dispatched);
    add(gaps.start, row.acquired, row.started);
    add(gaps.output, row.started, row.first_output);
  }
}

function add(samples: Samples, from: number | null | undefined, to: number | null | undefined): void {
  if (typeof from === 'number' && typeof to === 'number') samples.values.push(to - from);
  else addFailure(samples, new Error('a time was not recorded'));
}

async function watchChain(local: Local, bench: Bench, samples: Samples): Promise<void> {
  const build = await local.build(chainIr(Array.from({ length: steps }, (_, index) => `echo step ${index}`)));
  const jobs = await local.db
    .selectFrom('jobs')
    .select('id')
    .where('build_id', '=', build.id)
    .orderBy('position')
    .execute();
  const token = await local.logToken(build);
  const watching = jobs.map(({ id }, index) => watchJob({ local, bench, jobId: id, token }, `step ${index}\n`));
  const watched = await Promise.all(watching);
  await local.passed(build, bench.signal);
  for (const [index, { firstMs }] of watched.entries()) {
    if (index > 0) add(samples, watched[index - 1]?.doneMs, firstMs);
  }
}

/** When a reader saw the first output of a job, and that it was over. */
async function watchJob(
  { local, bench, jobId, token }: { local: Local; bench: Bench; jobId: string; token: string },
  expected: string,
): Promise<{ firstMs: number | null; doneMs: number | null }> {
  let firstMs: number | null = null;
  let text = '';
  for await (const chunk of followJobLog({ baseUrl: local.url, jobId, token, signal: bench.signal })) {
    if (chunk.stream === 'meta') continue;
    firstMs ??= performance.now();
    text += chunk.content;
  }
  return text === expected ? { firstMs, doneMs: performance.now() } : { firstMs: null, doneMs: null };
}
