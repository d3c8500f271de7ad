import type { CapsuleShape } from '@caisson/contracts/host-api';
import { type HostView, place } from '@caisson/core/place';
import { sql } from 'kysely';
import type { Database } from '../store/database.ts';
import { leaseMs, takeLease } from './lease.ts';
import { changeBuild, type TransitionDeps } from './transition.ts';

const lockKey = 7_226_103;
const jobsPerRound = 200;
const snapshotGoneAfterMs = 600_000;

/**
 * Gives scheduled jobs to hosts with room, the longest waiting first. One control plane does this at a time, so the view of what is
 * free stays true during a round.
 */
export async function placeJobs(deps: TransitionDeps, shape: CapsuleShape): Promise<void> {
  await deps.db.transaction().execute(async (lock) => {
    const { rows } = await sql<{ locked: boolean }>`select pg_try_advisory_xact_lock(${lockKey}) as locked`.execute(
      lock,
    );
    if (rows[0]?.locked) await placeRound(deps, shape);
  });
}

interface WaitingJob {
  readonly id: string;
  readonly buildId: string;
  readonly snapshot: { readonly hostId: string; readonly isGone: boolean } | null;
}

async function placeRound(deps: TransitionDeps, shape: CapsuleShape): Promise<void> {
  const jobs = await loadWaiting(deps.db);
  if (jobs.length === 0) return;
  const hosts = await loadHosts(deps.db);
  for (const job of jobs) {
    if (job.snapshot?.isGone) {
      await fail(deps, job);
      continue;
    }
    const placement = place([...hosts.values()], { ...shape, snapshotHostIds: job.snapshot && [job.snapshot.hostId] });
    if (!placement.ok) continue;
    const isTaken = await assign(deps, job, { hostId: placement.hostId, shape });
    const host = hosts.get(placement.hostId);
    if (isTaken && host !== undefined) hosts.set(host.hostId, withUsed(host, shape));
  }
}

async function assign(
  deps: TransitionDeps,
  job: WaitingJob,
  target: { hostId: string; shape: CapsuleShape },
): Promise<boolean | null> {
  return changeBuild(deps, job.buildId, async (change) => {
    const row = await change.tx.selectFrom('jobs').selectAll().where('id', '=', job.id).executeTakeFirstOrThrow();
    if (row.status !== 'scheduled') return false;
    const leaseId = await takeLease(change.tx, row, target);
    return (await change.job(job.id, { kind: 'assigned', leaseId })).ok;
  });
}

async function fail(deps: TransitionDeps, { id, buildId }: WaitingJob): Promise<void> {
  const message = 'The host with the disk of the step it builds in has been gone for ten minutes. Run the build again.';
  await changeBuild(deps, buildId, (change) =>
    change.job(id, { kind: 'unplaceable', error: { code: 'snapshot_missing', message } }),
  );
}

async function loadWaiting(db: Database): Promise<readonly WaitingJob[]> {
  const rows = await db
    .selectFrom('jobs')
    .leftJoin('jobs as parents', 'parents.id', 'jobs.builds_in')
    .leftJoin('layers', 'layers.id', 'parents.layer_id')
    .leftJoin('hosts', 'hosts.id', 'layers.host_id')
    .select(['jobs.id', 'jobs.build_id', 'jobs.builds_in', 'layers.host_id'])
    .select(
      sql<boolean>`coalesce(hosts.last_seen_at < clock_timestamp() - ${snapshotGoneAfterMs} * interval '1 millisecond', true)`.as(
        'is_gone',
      ),
    )
    .where('jobs.status', '=', 'scheduled')
    .orderBy('jobs.scheduled_at')
    .orderBy('jobs.id')
    .limit(jobsPerRound)
    .execute();
  return rows.map(({ id, build_id, builds_in, host_id, is_gone }) => ({
    id,
    buildId: build_id,
    snapshot: builds_in === null ? null : { hostId: host_id ?? '', isGone: is_gone },
  }));
}

async function loadHosts(db: Database): Promise<Map<string, HostView>> {
  const rows = await db
    .selectFrom('hosts')
    .leftJoin('capsules', (join) => join.onRef('capsules.host_id', '=', 'hosts.id').on('capsules.ended_at', 'is', null))
    .select(['hosts.id', 'hosts.cpus', 'hosts.memory_bytes', 'hosts.disk_bytes'])
    .select(({ fn }) => [
      fn.sum<number | null>('capsules.cpus').as('used_cpus'),
      sql<number | null>`sum(capsules.memory_bytes)::float8`.as('used_memory'),
      sql<number | null>`sum(capsules.disk_bytes)::float8`.as('used_disk'),
      sql<boolean>`coalesce(hosts.last_seen_at > clock_timestamp() - ${leaseMs} * interval '1 millisecond', false)`.as(
        'is_online',
      ),
    ])
    .groupBy('hosts.id')
    .execute();
  return new Map(
    rows.map((row) => [
      row.id,
      {
        hostId: row.id,
        status: row.is_online ? 'online' : 'lost',
        capacity: { cpus: row.cpus, memoryBytes: row.memory_bytes, diskBytes: row.disk_bytes },
        used: { cpus: row.used_cpus ?? 0, memoryBytes: row.used_memory ?? 0, diskBytes: row.used_disk ?? 0 },
      },
    ]),
  );
}

function withUsed(host: HostView, shape: CapsuleShape): HostView {
  const { cpus, memoryBytes, diskBytes } = host.used;
  return {
    ...host,
    used: {
      cpus: cpus + shape.cpus,
      memoryBytes: memoryBytes + shape.memoryBytes,
      diskBytes: diskBytes + shape.diskBytes,
    },
  };
}
