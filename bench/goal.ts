import { figure, percent } from './figure.ts';
import type { SeriesResult } from './row.ts';

/** What a series has to reach. Everything a reader sees of it (its words, the verdict) is made from these numbers. */
export interface Goal {
  /** Name of the series. */
  readonly series: string;
  /** `ok` is the share of calls that were right. */
  readonly figure: 'p50' | 'p95' | 'p99' | 'min' | 'max' | 'ok';
  readonly bound: '≤' | '<' | '≥';
  /** In the unit of the series, or a factor when `ofP50` names the series it multiplies. */
  readonly limit: number;
  /** The limit is a multiple of this series' p50; a factor below 1 reads as “times faster”. */
  readonly ofP50?: string;
  /** Why a miss is one, said with figures of the same run. */
  readonly whenMissed?: (p50Of: (series: string) => string) => string;
}

/** A goal and what became of it, as it is kept and printed. */
export interface JudgedGoal {
  readonly text: string;
  readonly series: string;
  /** The figure the verdict is about; null when there is none. */
  readonly measured: string | null;
  readonly verdict: 'reached' | 'missed' | 'not measured';
  readonly why: string | null;
}

/** A call that failed makes a miss of its series, whatever the times of the others are. */
export function judge(goal: Goal, all: readonly SeriesResult[], nothingBecause: string | null): JudgedGoal {
  const own = all.find(({ name }) => name === goal.series);
  const other = all.find(({ name }) => name === goal.ofP50);
  const about = { text: goalText(goal, own?.unit ?? 'ms'), series: goal.series };
  const absent = (why: string | null): JudgedGoal => ({ ...about, measured: null, verdict: 'not measured', why });
  if (own === undefined) return absent(nothingBecause);
  if (own.summary === null)
    return { ...about, measured: null, verdict: 'missed', why: own.reasons[0] ?? 'no call was right' };
  if (goal.ofP50 !== undefined && !other?.summary) return absent(`there is no ${goal.ofP50} to compare with`);
  const value = goal.figure === 'ok' ? own.summary.successRate : own.summary[goal.figure];
  const factor = value / (other?.summary?.p50 ?? 1);
  const isReached = own.failures === 0 && isWithin(factor, goal);
  const said = goal.figure === 'ok' ? percent(value) : figure(value, own.unit);
  const measured = `${said}${goal.ofP50 === undefined ? '' : ` (${factorText(factor, goal)})`}`;
  return {
    ...about,
    measured,
    verdict: isReached ? 'reached' : 'missed',
    why: isReached ? null : whyMissed(goal, own, all),
  };
}

function isWithin(value: number, { bound, limit }: Goal): boolean {
  if (bound === '≥') return value >= limit;
  return bound === '≤' ? value <= limit : value < limit;
}

function whyMissed({ whenMissed }: Goal, own: SeriesResult, all: readonly SeriesResult[]): string | null {
  if (own.failures > 0) return `${own.failures} calls failed: ${own.reasons[0] ?? ''}`;
  const p50Of = (series: string) => {
    const found = all.find(({ name }) => name === series);
    return found?.summary ? figure(found.summary.p50, found.unit) : 'not measured';
  };
  return whenMissed?.(p50Of) ?? null;
}

function goalText({ figure: which, bound, limit, ofP50 }: Goal, unit: SeriesResult['unit']): string {
  if (which === 'ok') return `ok ${bound} ${percent(limit)}`;
  if (ofP50 === undefined) return `${which} ${bound} ${limit.toLocaleString('en')}${unit === '/s' ? '' : ' '}${unit}`;
  if (limit < 1) return `${which} ≥ ${roundedFactor(1 / limit)} × faster than ${ofP50}`;
  return `${which} ${bound} ${limit} × the p50 of ${ofP50}`;
}

function factorText(factor: number, { limit }: Goal): string {
  return limit < 1 ? `${roundedFactor(1 / factor)} × faster` : `${roundedFactor(factor)} ×`;
}

function roundedFactor(factor: number): string {
  return String(Number(factor.toFixed(factor < 10 ? 2 : 1)));
}
