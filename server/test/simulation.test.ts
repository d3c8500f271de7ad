import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeFailure } from '../simulation/report.ts';
import { runSeeds, seedsFrom } from '../simulation/run-seeds.ts';
import type { SqlSession } from '../simulation/sql-session.ts';
import { bugs, withBug } from './simulation-bugs.ts';
import { simulationSession } from './simulation-rig.ts';

const timeoutMs = 600_000;
/** In this many seeds a bug has to be found. */
const fewSeeds = 150;
const mostShrinkRuns = 40;

let session: SqlSession;
beforeAll(async () => {
  session = await simulationSession();
});
afterAll(() => session.close());

test.each(bugs)(
  'a control plane that $what is found, and shown in a small history',
  async (bug) => {
    let isPlanted = false;
    const spoilt = withBug(session, bug, () => {
      isPlanted = true;
    });
    const { failures, seeds } = await runSeeds(spoilt, seedsFrom(bug.fromSeed ?? 1, fewSeeds), {
      mostFailures: 1,
      mostShrinkRuns,
    });
    // The statement may be written in another way by now.
    expect(isPlanted).toBe(true);
    const [failure] = failures;
    expect(failure?.outcome.violation?.invariant, `after ${seeds} seeds`).toBe(bug.breaks);
    if (failure === undefined) return;
    const { scenario, outcome } = failure.shrunk;
    expect(outcome.violation?.invariant).toBe(bug.breaks);
    expect(scenario.builds).toHaveLength(1);
    expect(scenario.faults.length).toBeLessThanOrEqual(2);
    expect(describeFailure(failure.seed, failure.shrunk)).toContain(`BROKEN     ${bug.breaks}`);
  },
  timeoutMs,
);

test(
  'another thousand seeds keep every promise',
  async () => {
    const { failures } = await runSeeds(session, seedsFrom(1_001, 1_000), { mostFailures: 1 });
    expect(failures.map(({ seed, shrunk }) => describeFailure(seed, shrunk))).toEqual([]);
  },
  timeoutMs,
);
