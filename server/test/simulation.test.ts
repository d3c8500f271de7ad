import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeFailure } from '../simulation/report.ts';
import { runSeeds, seedsFrom } from '../simulation/run-seeds.ts';
import type { SqlSession } from '../simulation/sql-session.ts';
import { simulationSession } from './simulation-rig.ts';

const timeoutMs = 300_000;
/** In this many seeds a bug has to be found. */
const fewSeeds = 150;

let session: SqlSession;
beforeAll(async () => {
  session = await simulationSession();
});
afterAll(() => session.close());

/** A bug, as what it makes of the statements of the control plane. */
interface Bug {
  readonly what: string;
  readonly breaks: string;
  readonly replace: string | RegExp;
  readonly by: string;
}

const bugs: readonly Bug[] = [
  {
    what: 'takes output under a lease that is not held any more',
    breaks: 'I2',
    replace: "and status = 'held'\n      order by id for no key update\n    )\n    update leases set acknowledged_seq",
    by: 'order by id for no key update) update leases set acknowledged_seq',
  },
  {
    what: 'forgets which messages it has stored',
    breaks: 'I4',
    replace: 'set acknowledged_seq = greatest(known.acknowledged_seq, v.seq)',
    by: 'set acknowledged_seq = known.acknowledged_seq',
  },
  {
    what: 'gives a host more than it has room for',
    breaks: 'capacity',
    replace: 'sum("capsules"."cpus") as "used_cpus"',
    by: '0 as "used_cpus"',
  },
  {
    what: 'leaves capsules behind',
    breaks: 'I6',
    replace: 'update capsules set status = v.capsule_status, started_at = v.started_at, ended_at = v.ended_at',
    by: "update capsules set status = 'running'",
  },
  {
    what: 'never takes a lease from a silent host',
    breaks: 'I3',
    replace: "where l.status = 'held' and (l.expires_at <",
    by: "where l.status = 'held' and false and (l.expires_at <",
  },
  {
    what: 'never plans what nobody has planned after a crash',
    breaks: 'I3',
    replace: 'where b.finished_at is null and b.planned_at is null',
    by: 'where false and b.finished_at is null and b.planned_at is null',
  },
];

test.each(bugs)(
  'a control plane that $what is found, and shown in a small history',
  async (bug) => {
    const { failures, seeds } = await runSeeds(withBug(session, bug), seedsFrom(1, fewSeeds), { mostFailures: 1 });
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

function withBug(sound: SqlSession, { replace, by }: Bug): SqlSession {
  return { ...sound, query: (text, parameters) => sound.query(text.replace(replace, by), parameters) };
}

test(
  'another thousand seeds keep every promise',
  async () => {
    const { failures } = await runSeeds(session, seedsFrom(1_001, 1_000), { mostFailures: 1 });
    expect(failures.map(({ seed, shrunk }) => describeFailure(seed, shrunk))).toEqual([]);
  },
  timeoutMs,
);
