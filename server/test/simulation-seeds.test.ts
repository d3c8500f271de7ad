import { afterAll, beforeAll, expect, test } from 'vitest';
import { keptSeeds } from '../simulation/kept-seeds.ts';
import { describeFailure } from '../simulation/report.ts';
import { runSeeds, seedsFrom } from '../simulation/run-seeds.ts';
import { scenarioOf } from '../simulation/scenario.ts';
import { simulate } from '../simulation/simulate.ts';
import type { SqlSession } from '../simulation/sql-session.ts';
import { simulationSession } from './simulation-rig.ts';

const timeoutMs = 600_000;

let session: SqlSession;
beforeAll(async () => {
  session = await simulationSession();
});
afterAll(() => session.close());

test.each(keptSeeds)('seed $seed keeps every promise: $found', async ({ seed }) => {
  expect(await failuresOf([seed])).toEqual([]);
});

test('the same seed gives the same history, event for event', async () => {
  const hashes = async () => {
    const all: string[] = [];
    for (const seed of seedsFrom(1, 20)) all.push((await simulate(session, scenarioOf(seed))).hash);
    return all;
  };
  const first = await hashes();
  expect(await hashes()).toEqual(first);
  expect(new Set(first).size).toBe(first.length);
});

test(
  'a thousand seeds keep every promise',
  async () => {
    expect(await failuresOf(seedsFrom(1, 1_000))).toEqual([]);
  },
  timeoutMs,
);

/** What broke, as people read it. */
async function failuresOf(seeds: Iterable<number>): Promise<readonly string[]> {
  const { failures } = await runSeeds(session, seeds, { mostFailures: 1 });
  return failures.map(({ seed, shrunk }) => describeFailure(seed, shrunk));
}
