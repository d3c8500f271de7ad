import { expect, test } from 'vitest';
import { type Goal, judge } from '../goal.ts';
import type { SeriesResult } from '../row.ts';
import { addFailure, noSamples, summarise } from '../statistics.ts';

function series(name: string, values: readonly number[], failures: readonly string[] = []): SeriesResult {
  const samples = { ...noSamples(), values: [...values] };
  for (const reason of failures) addFailure(samples, new Error(reason));
  const { reasons } = samples;
  return { name, role: 'ours', unit: 'ms', summary: summarise(samples), failures: failures.length, reasons };
}

const absolute: Goal = { series: 'a', figure: 'p50', bound: '≤', limit: 4 };
const relative: Goal = { series: 'a', figure: 'p95', bound: '≤', limit: 1.5, ofP50: 'b' };

test('the numbers alone decide, the bound included', () => {
  expect(judge(absolute, [series('a', [1, 4, 9])], null)).toMatchObject({
    ...{ text: 'p50 ≤ 4 ms', measured: '4.00 ms', verdict: 'reached', why: null },
  });
  expect(judge({ ...absolute, bound: '<' }, [series('a', [4])], null)).toMatchObject({ verdict: 'missed' });
  expect(judge({ ...absolute, bound: '≥', limit: 5 }, [series('a', [4])], null)).toMatchObject({ verdict: 'missed' });
});

test('a goal may be a multiple of the p50 of another series', () => {
  const goal = judge(relative, [series('a', [1, 3]), series('b', [2])], null);
  expect(goal).toMatchObject({ text: 'p95 ≤ 1.5 × the p50 of b', measured: '3.00 ms (1.5 ×)', verdict: 'reached' });
  const faster = judge({ ...relative, limit: 1 / 5 }, [series('a', [2]), series('b', [8])], null);
  expect(faster).toMatchObject({
    text: 'p95 ≥ 5 × faster than b',
    measured: '2.00 ms (4 × faster)',
    verdict: 'missed',
  });
});

test('a call that failed makes a miss, and says why', () => {
  const goal = judge(absolute, [series('a', [1, 1], ['a line was lost'])], null);
  expect(goal).toMatchObject({ verdict: 'missed', why: '1 calls failed: a line was lost' });
  expect(judge(absolute, [series('a', [], ['nothing worked'])], null)).toMatchObject({
    ...{ measured: null, verdict: 'missed', why: 'nothing worked' },
  });
  const whole: Goal = { series: 'a', figure: 'ok', bound: '≥', limit: 1 };
  expect(judge(whole, [series('a', [1, 1])], null)).toMatchObject({ measured: '100 %', verdict: 'reached' });
  expect(judge(whole, [series('a', [1], ['lost'])], null)).toMatchObject({ measured: '50.0 %', verdict: 'missed' });
});

test('what was not measured is neither reached nor missed', () => {
  expect(judge(absolute, [], 'capsules need root')).toMatchObject({
    verdict: 'not measured',
    why: 'capsules need root',
  });
  expect(judge(relative, [series('a', [1])], null)).toMatchObject({ verdict: 'not measured' });
});

test('a miss is explained with figures of the same run', () => {
  const whenMissed = (p50Of: (name: string) => string) => `b alone takes ${p50Of('b')}, c ${p50Of('c')}`;
  const goal = judge({ ...absolute, whenMissed }, [series('a', [5]), series('b', [3])], null);
  expect(goal).toMatchObject({ why: 'b alone takes 3.00 ms, c not measured' });
});
