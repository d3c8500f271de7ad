import { crashPoint } from '@caisson/contracts/crash-point';
import type { JobEvent, JobState } from '@caisson/core/job';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import type { Database, Tx } from '../store/database.ts';
import { leaseMs } from './lease.ts';
import { changeBuild, changeBuilds, type TransitionDeps } from './transition.ts';

/** A gap between two looks longer than this was an outage of ours; it is added to everything that waits for a host. */
const outageMs = 3_000;
/** The same for the first look of a control plane: with another one at work it was a second at most. */
const firstOutageMs = 1_500;
const mostAtOnce = 200;

/**
 * The slow truth about leases and deadlines, by the database's clock: leases of a silent host are lost, those that do not come on in
 * time are ended, builds whose time is over as well. A host's silence counts only for the time in which some control plane looked.
 * `isFirst` is set for the first look after a start: hosts need their time to be heard again.
 */
export async function scanLeases(
  deps: TransitionDeps & { readonly logger: Logger },
  { isFirst }: { isFirst: boolean },
): Promise<void> {
  await forgiveOutage(deps.db, isFirst);
  crashPoint('scan.forgiven');
  await endOverdue(deps);
  await timeOutBuilds(deps);
}

interface Overdue {
  readonly lease_id: string;
  readonly job_id: string;
  readonly build_id: string;
  readonly status: JobState;
  readonly is_expired: boolean;
}

/** By the clock of the last look: what jumped since then is not forgiven yet. */
async function findOverdue(db: Database | Tx, buildId: string | null): Promise<readonly Overdue[]> {
  const { rows } = await sql<Overdue>`
    select l.id as lease_id, l.job_id, j.build_id, j.status, l.expires_at < looked_at as is_expired
    from watch, leases l join jobs j on j.id = l.job_id
    where l.status = 'held' and (l.expires_at < looked_at or l.due_at < looked_at)
      and (${buildId}::uuid is null or j.build_id = ${buildId}::uuid)
    limit ${mostAtOnce}`.execute(db);
  return rows;
}

async function endOverdue(deps: TransitionDeps & { readonly logger: Logger }): Promise<void> {
  const found = await findOverdue(deps.db, null);
  for (const buildId of new Set(found.map(({ build_id }) => build_id))) {
    // One build that cannot be changed does not keep the others.
    await changeBuild(deps, buildId, async (change) => {
      const { set } = change;
      const ofBuild = found.filter(({ build_id }) => build_id === buildId);
      await set.readLeases(ofBuild.map(({ lease_id }) => lease_id));
      // A host may have been heard while the locks were waited for.
      const overdue = await findOverdue(set.tx, buildId);
      await set.readJobs(overdue.map(({ job_id }) => job_id));
      for (const row of overdue) {
        const event = eventOf(row);
        if (event !== null) await change.job(row.job_id, event);
      }
    }).catch((error) => deps.logger.error({ err: error, buildId }, 'overdue jobs of a build could not be ended'));
    crashPoint('scan.ended');
  }
}

function eventOf({ lease_id: leaseId, status, is_expired }: Overdue): JobEvent | null {
  if (is_expired) return { kind: 'lost', leaseId };
  if (status === 'assigned') return { kind: 'start_expired', leaseId };
  if (status === 'running') return { kind: 'timeout_expired', leaseId };
  return status === 'canceling' || status === 'timing_out' ? { kind: 'stop_expired', leaseId } : null;
}

async function timeOutBuilds(deps: TransitionDeps): Promise<void> {
  const rows = await deps.db
    .selectFrom('builds')
    .select('id')
    .where('deadline_at', '<', ({ selectFrom }) => selectFrom('watch').select('looked_at'))
    .where('finished_at', 'is', null)
    .where('timed_out', '=', false)
    .where('cancel_requested', '=', false)
    .limit(mostAtOnce)
    .execute();
  if (rows.length === 0) return;
  const ids = rows.map(({ id }) => id);
  await changeBuilds(deps, ids, async ({ builds }) => {
    for (const build of builds.values()) await build.apply({ kind: 'build_timeout' });
  });
}

/**
 * Also when the clock was set, forward or back: what was measured with it moves along. Who was heard after the clock was set and
 * before this look has a time by the new clock already, which must not move beyond what a lease may ever have.
 */
async function forgiveOutage(db: Database, isFirst: boolean): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const { gap_ms: gapMs } = await tx
      .selectFrom('watch')
      .select(sql<number>`(extract(epoch from clock_timestamp() - looked_at) * 1000)::float8`.as('gap_ms'))
      .forUpdate()
      .executeTakeFirstOrThrow();
    if (gapMs > (isFirst ? firstOutageMs : outageMs) || gapMs < 0) {
      await moveDeadlines(tx, { gapMs, leastMs: isFirst || gapMs < 0 ? leaseMs : 0 });
    }
    await tx.updateTable('watch').set({ looked_at: sql<Date>`clock_timestamp()` }).execute();
  });
}

async function moveDeadlines(tx: Tx, { gapMs, leastMs }: { gapMs: number; leastMs: number }): Promise<void> {
  const ms = (value: number) => sql`${value} * interval '1 millisecond'`;
  await sql`select id from builds where finished_at is null order by id for no key update`.execute(tx);
  await sql`update builds set deadline_at = deadline_at + ${ms(gapMs)} where finished_at is null`.execute(tx);
  await sql`select id from leases where status = 'held' order by id for no key update`.execute(tx);
  await sql`
    update leases set
      expires_at = least(
        greatest(expires_at + ${ms(gapMs)}, clock_timestamp() + ${ms(leastMs)}),
        clock_timestamp() + ${ms(leaseMs)}
      ),
      due_at = due_at + ${ms(gapMs)}
    where status = 'held'`.execute(tx);
  await sql`update hosts set last_seen_at = least(last_seen_at + ${ms(gapMs)}, clock_timestamp())`.execute(tx);
}
