import { sql } from 'kysely';
import type { Database } from '../store/database.ts';
import { changeBuild, type TransitionDeps } from './transition.ts';

/** A gap between two looks longer than this was an outage of ours; it is added to every lease. */
const outageMs = 3_000;
const startDeadlineMs = 1_200_000;

/**
 * The slow truth about leases, by the database's clock: those of a silent host are lost, those that never began are given up. A
 * host's silence counts only for the time in which some control plane looked.
 */
export async function scanLeases(deps: TransitionDeps): Promise<void> {
  await forgiveOutage(deps.db);
  const rows = await deps.db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .select(['leases.id as lease_id', 'jobs.id as job_id', 'jobs.build_id'])
    .select(sql<boolean>`leases.expires_at < clock_timestamp()`.as('is_expired'))
    .where('leases.status', '=', 'held')
    .where(({ or, eb, and }) =>
      or([
        eb('leases.expires_at', '<', sql<Date>`clock_timestamp()`),
        and([
          eb('jobs.status', '=', 'assigned'),
          eb('leases.acquired_at', '<', sql<Date>`clock_timestamp() - ${startDeadlineMs} * interval '1 millisecond'`),
        ]),
      ]),
    )
    .execute();
  for (const { lease_id: leaseId, job_id, build_id, is_expired } of rows) {
    const kind = is_expired ? 'lost' : 'start_expired';
    await changeBuild(deps, build_id, (change) => change.job(job_id, { kind, leaseId }));
  }
}

async function forgiveOutage(db: Database): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const { gap_ms: gapMs } = await tx
      .selectFrom('watch')
      .select(sql<number>`(extract(epoch from clock_timestamp() - looked_at) * 1000)::float8`.as('gap_ms'))
      .forUpdate()
      .executeTakeFirstOrThrow();
    if (gapMs > outageMs) {
      await tx
        .updateTable('leases')
        .set({ expires_at: sql<Date>`expires_at + ${gapMs} * interval '1 millisecond'` })
        .where('status', '=', 'held')
        .execute();
    }
    await tx.updateTable('watch').set({ looked_at: sql<Date>`clock_timestamp()` }).execute();
  });
}
