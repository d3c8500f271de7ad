import { planPipeline } from '../core/plan-pipeline.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, sample, timeMs } from './statistics.ts';

const stepsName = (steps: number) => `${steps.toLocaleString('en')} steps`;

/** From IR text to a checked, ordered plan. */
export const plan: Row = {
  id: 'plan',
  title: 'plan 10,000 and 100,000 steps',
  goals: [
    { series: stepsName(10_000), figure: 'p50', bound: '≤', limit: 50 },
    { series: stepsName(100_000), figure: 'p50', bound: '≤', limit: 500 },
  ],
  measure,
};

async function measure(bench: Bench): Promise<Measured> {
  const series = [];
  for (const [steps, rounds] of [
    [10_000, 50],
    [100_000, 20],
  ] as const) {
    const text = chain(steps);
    const samples = noSamples();
    const parsing = noSamples();
    for (let index = 0; index < bench.count(rounds) && !bench.signal.aborted; index++) {
      await sample(samples, () =>
        timeMs(() => {
          const result = planPipeline(text);
          if (!result.ok || result.plan.steps.length !== steps) throw new Error('the plan is not whole');
        }),
      );
      await sample(parsing, () => timeMs(() => JSON.parse(text)));
    }
    series.push({ name: stepsName(steps), role: 'ours', unit: 'ms', samples } as const);
    series.push({
      name: `${stepsName(steps)}: JSON.parse alone`,
      role: 'baseline',
      unit: 'ms',
      samples: parsing,
    } as const);
  }
  return {
    series,
    notes: ['A chain: every step starts from the disk of the one before and has a variable of its own.'],
  };
}

function chain(steps: number): string {
  return JSON.stringify({
    version: '0',
    env: { CI: 'true' },
    steps: Array.from({ length: steps }, (_, index) => ({
      type: 'command',
      key: `step-${index}`,
      cmd: `echo ${index}`,
      label: `step ${index}`,
      builds_in: index === 0 ? null : `step-${index - 1}`,
      env: { INDEX: String(index) },
    })),
  });
}
