import { crashPoint } from '@caisson/contracts/crash-point';
import type { LeaseRef } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Link } from './host-link.ts';
import { leaseMs } from './lease.ts';
import type { LoopSpec } from './loop.ts';
import { changeBuild } from './transition.ts';

const heartbeatEveryMs = 5_000;
/** A lease has time for three heartbeats; one that failed is not waited for as long again. */
const retryMs = 1_000;

/** Renews the leases of a host that answers, ends what it holds without one, and notices what it should hold and does not. */
export function heartbeatLoop(link: Link): LoopSpec {
  return {
    name: 'heartbeat',
    everyMs: heartbeatEveryMs,
    retryMs,
    async run() {
      const { db } = link.deps;
      const { rows } = await sql<{ asked_at: string }>`select clock_timestamp()::text as asked_at`.execute(db);
      const askedAt = rows[0]?.asked_at ?? '';
      const { leases: held, refuses } = await link.host.heartbeat();
      await renew(link, refuses ?? null);
      crashPoint('heartbeat.renewed');
      await loseMissing(link, held, askedAt);
      await endStrangers(link, held);
    },
  };
}

/** A lease that is not handed over yet, e.g. because a large source is on its way, is held by a host that answers all the same. */
async function renew({ deps: { db }, hostId }: Link, refuses: string | null): Promise<void> {
  await sql`
    update hosts set last_seen_at = clock_timestamp(), refuses = ${refuses} where id = ${hostId}`.execute(db);
  await sql`
    with held as (
      select id from leases where host_id = ${hostId} and status = 'held' order by id for no key update
    )
    update leases set expires_at = clock_timestamp() + ${leaseMs} * interval '1 millisecond'
    from held where leases.id = held.id`.execute(db);
}

async function endStrangers({ deps: { db }, host }: Link, held: readonly LeaseRef[]): Promise<void> {
  if (held.length === 0) return;
  const fences = held.map(({ fence }) => fence);
  const { rows } = await sql<{ fence: number }>`
    select fence from leases where status = 'held' and fence = any(${fences}::bigint[])`.execute(db);
  const known = new Set(rows.map(({ fence }) => fence));
  for (const lease of held) {
    if (known.has(lease.fence)) continue;
    await host.cancelRun(lease, 'lost');
    crashPoint('stranger.told');
  }
}

/** A dispatched lease the host does not know (its disk was wiped, say) is lost at once. */
async function loseMissing({ deps, hostId }: Link, held: readonly LeaseRef[], askedAt: string): Promise<void> {
  const fences = held.map(({ fence }) => fence);
  const { rows } = await sql<{ id: string; job_id: string; build_id: string }>`
    select l.id, l.job_id, j.build_id
    from leases l join jobs j on j.id = l.job_id
    where l.host_id = ${hostId} and l.status = 'held' and l.dispatched_at < ${askedAt}::timestamptz
      and l.fence <> all(${fences}::bigint[])`.execute(deps.db);
  for (const [buildId, missing] of Map.groupBy(rows, ({ build_id }) => build_id)) {
    await changeBuild(deps, buildId, async (change) => {
      await change.set.readLeases(missing.map(({ id }) => id));
      for (const { id: leaseId, job_id } of missing) await change.job(job_id, { kind: 'lost', leaseId });
    });
    crashPoint('missing.lost');
  }
}
