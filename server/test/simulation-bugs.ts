import type { SqlSession } from '../simulation/sql-session.ts';

/** A bug, as what it makes of the statements of the control plane. */
export interface Bug {
  readonly what: string;
  readonly breaks: string;
  readonly replace: string | RegExp;
  readonly by: string;
  /** Where to look from, when it takes a rare scenario; 1 unless told. */
  readonly fromSeed?: number;
}

export const bugs: readonly Bug[] = [
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
    what: 'never gives a disk back',
    breaks: 'I3',
    replace: 'from layers where host_id = $1 and released_at is not null',
    by: 'from layers where host_id = $1 and false',
  },
  {
    what: 'takes every host for one that keeps memory',
    breaks: 'memory',
    replace: '"hosts"."memory_snapshots"',
    by: 'true as "memory_snapshots"',
    fromSeed: 60,
  },
  {
    what: 'brings memory to drivers of another version',
    breaks: 'memory',
    replace: "coalesce(parents.snapshot = 'memory', false)",
    by: 'false',
    fromSeed: 100,
  },
];

/** The session of a control plane that has the bug. `onPlanted` is called wherever it is. */
export function withBug(sound: SqlSession, { replace, by }: Bug, onPlanted: () => void): SqlSession {
  const spoil = (text: string): string => {
    const spoilt = text.replace(replace, by);
    if (spoilt !== text) onPlanted();
    return spoilt;
  };
  return { ...sound, query: (text, parameters) => sound.query(spoil(text), parameters) };
}
