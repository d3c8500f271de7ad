import { type AdvanceJob, advance } from '../core/advance.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, sample, timeMs } from './statistics.ts';

const steps = 100_000;
const [middleName, failedName] = ['half of it passed', 'its first step failed'];

/** What the engine asks whenever a job of a build ends. */
export const advanceLarge: Row = {
  id: 'advance',
  title: `what next, in a build of ${steps.toLocaleString('en')} steps`,
  goals: [middleName, failedName].map((series) => ({ series, figure: 'p50', bound: '≤', limit: 500 })),
  measure,
};

/** Chains of a hundred, the fan-out of a root; each step needs the one before it. */
const chainLength = 100;

async function measure(bench: Bench): Promise<Measured> {
  const [middle, failed] = [noSamples(), noSamples()];
  const half = build((at) => (at === 0 || at % chainLength < chainLength / 2 ? 'passed' : 'pending'));
  const broken = build((at) => (at === 0 ? 'failed' : 'pending'));
  for (let round = 0; round < bench.count(20) && !bench.signal.aborted; round++) {
    await sample(middle, () => timeAdvance(half, { schedule: steps / chainLength, skip: 0 }));
    await sample(failed, () => timeAdvance(broken, { schedule: 0, skip: steps - 1 }));
  }
  return {
    series: [
      { name: middleName, role: 'ours', unit: 'ms', samples: middle },
      { name: failedName, role: 'ours', unit: 'ms', samples: failed },
    ],
    notes: [
      `\`advance\` of \`core\`, pure: the states of all jobs go in, the ids to schedule and to skip come out and are counted. One root, ${steps / chainLength} chains of ${chainLength} behind it.`,
    ],
  };
}

function build(stateOf: (at: number) => AdvanceJob['state']): readonly AdvanceJob[] {
  return Array.from({ length: steps }, (_, at) => ({
    id: `job-${at}`,
    state: stateOf(at),
    dependsOn: at === 0 ? [] : [`job-${at % chainLength === 0 || at === 1 ? 0 : at - 1}`],
  }));
}

async function timeAdvance(jobs: readonly AdvanceJob[], expected: { schedule: number; skip: number }): Promise<number> {
  let found = { schedule: 0, skip: 0 };
  const ms = await timeMs(() => {
    const { schedule, skip } = advance(jobs);
    found = { schedule: schedule.length, skip: skip.length };
  });
  if (found.schedule !== expected.schedule || found.skip !== expected.skip) {
    throw new Error(`${JSON.stringify(found)} came instead of ${JSON.stringify(expected)}`);
  }
  return ms;
}
