import { addStats } from './report.ts';
import { scenarioOf } from './scenario.ts';
import { type Shrunk, shrink } from './shrink.ts';
import { type Outcome, simulate } from './simulate.ts';
import type { SqlSession } from './sql-session.ts';
import { noStats, type Stats } from './world.ts';

/** A seed that broke a promise. */
export interface Failure {
  readonly seed: number;
  readonly outcome: Outcome;
  readonly shrunk: Shrunk;
}

export interface SeedsRun {
  readonly seeds: number;
  readonly stats: Stats;
  readonly failures: readonly Failure[];
}

export interface SeedsOptions {
  /** Stops behind so many failures. */
  readonly mostFailures: number;
  /** How much is tried to make a failing scenario smaller. */
  readonly mostShrinkRuns?: number;
  /** Told after each seed. */
  onSeed?(seed: number, outcome: Outcome): void;
}

/** Runs seeds one after the other and shrinks those that fail. */
export async function runSeeds(
  session: SqlSession,
  seeds: Iterable<number>,
  { mostFailures, mostShrinkRuns = 300, onSeed }: SeedsOptions,
): Promise<SeedsRun> {
  let stats = noStats;
  let count = 0;
  const failures: Failure[] = [];
  for (const seed of seeds) {
    const scenario = scenarioOf(seed);
    const outcome = await simulate(session, scenario);
    count += 1;
    stats = addStats(stats, outcome.stats);
    onSeed?.(seed, outcome);
    if (outcome.violation === null) continue;
    const shrunk = await shrink((smaller) => simulate(session, smaller), { scenario, outcome }, mostShrinkRuns);
    failures.push({ seed, outcome, shrunk });
    if (failures.length >= mostFailures) break;
  }
  return { seeds: count, stats, failures };
}

/** `count` seeds from `first` on. */
export function* seedsFrom(first: number, count: number): Iterable<number> {
  for (let seed = first; seed < first + count; seed += 1) yield seed;
}
