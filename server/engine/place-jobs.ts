import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleShape } from '@caisson/contracts/host-api';
import { type Placement, type PlaceRequest, place, type Resources } from '@caisson/core/place';
import { sql } from 'kysely';
import type { Tx } from '../store/database.ts';
import type { RunDefaults } from './assignment.ts';
import type { Notice } from './notifications.ts';
import { type HostRow, type SnapshotRow, snapshotHostsOf, waitingJobs } from './snapshot-hosts.ts';
import { type BuildChanges, changeBuildsIn, type TransitionDeps } from './transition.ts';

/** Of the advisory lock under which jobs are placed. */
export const placementKey = 7_226_103;
/** A host that has missed a heartbeat keeps its leases for a while, but is given no more. */
const silentMs = 8_000;
const jobsPerPage = 500;
const jobsPerRound = 500;

/**
 * Gives scheduled jobs to hosts with room, the longest waiting first. One control plane does this at a time, and what is free is read
 * and taken in one transaction, so no host is given more than it has.
 */
export async function placeJobs(deps: TransitionDeps, defaults: PlaceDefaults): Promise<void> {
  for (let isMore = true; isMore; ) {
    const round = await deps.db.transaction().execute((tx) => placeRound(deps, tx, defaults));
    if (round === null) return;
    crashPoint('place.committed');
    deps.notifications.wake(round.notices);
    isMore = round.isMore;
  }
}

export type PlaceDefaults = Pick<RunDefaults, 'shape' | 'copyAfterMs'>;

interface Round {
  readonly notices: Iterable<Notice>;
  readonly isMore: boolean;
}

/** Null when there is nothing to place, or another control plane places. */
async function placeRound(deps: TransitionDeps, tx: Tx, defaults: PlaceDefaults): Promise<Round | null> {
  const { rows } = await sql<{ locked: boolean }>`select pg_try_advisory_xact_lock(${placementKey}) as locked`.execute(
    tx,
  );
  if (!rows[0]?.locked) return null;
  const placed = await choose(tx, await loadHosts(tx), defaults);
  if (placed.length === 0) return null;
  const buildIds = [...new Set(placed.map(({ job }) => job.buildId))];
  const { notices } = await changeBuildsIn(deps, { tx, buildIds }, (changes) =>
    assign(changes, placed, defaults.shape),
  );
  return { notices, isMore: placed.length >= jobsPerRound };
}

interface Placed {
  readonly job: WaitingJob;
  readonly hostId: string;
  /** The disk it starts from, when that is to be brought to its host. */
  readonly copiedLayerId: string | null;
}

/** Jobs that no host can take just now do not keep others waiting: behind them, more are looked at while any host has room. */
async function choose(tx: Tx, hosts: Map<string, HostRow>, defaults: PlaceDefaults): Promise<readonly Placed[]> {
  const { shape } = defaults;
  const placed: Placed[] = [];
  const find = (needs: Omit<PlaceRequest, keyof Resources>): Placement =>
    place([...hosts.values()], { ...shape, ...needs });
  const anywhere = { snapshotHostIds: [...hosts.keys()], copyHostIds: [], needsMemorySnapshots: false };
  let after: WaitingJob | null = null;
  while (placed.length < jobsPerRound && find(anywhere).ok) {
    const page: readonly WaitingJob[] = await loadWaiting(tx, after, defaults);
    for (const job of page) {
      const { needsMemorySnapshots, snapshot } = job;
      const disk = snapshotHostsOf(snapshot, hosts);
      const placement = find({ ...disk, needsMemorySnapshots });
      const host = placement.ok ? hosts.get(placement.hostId) : undefined;
      if (host === undefined) continue;
      hosts.set(host.hostId, withUsed(host, shape));
      const isThere = disk.snapshotHostIds?.includes(host.hostId) ?? true;
      placed.push({ job, hostId: host.hostId, copiedLayerId: isThere ? null : snapshot.layer_id });
    }
    after = page.at(-1) ?? null;
    if (page.length < jobsPerPage) break;
  }
  return placed;
}

async function assign({ set, builds }: BuildChanges, placed: readonly Placed[], shape: CapsuleShape): Promise<void> {
  await set.readJobs(placed.map(({ job }) => job.id));
  for (const { job, hostId, copiedLayerId } of placed) {
    const row = set.job(job.id);
    const build = builds.get(job.buildId);
    if (row?.status !== 'scheduled' || build === undefined) continue;
    await build.job(job.id, { kind: 'assigned', leaseId: set.takeLease(row, { hostId, shape }).id });
    if (copiedLayerId !== null) await announceCopy(set, { jobId: job.id, hostId, layerId: copiedLayerId });
  }
}

/** Whoever serves the host brings it there before the job; see `bring-layer.ts`. */
async function announceCopy(
  set: BuildChanges['set'],
  { jobId, hostId, layerId }: { readonly jobId: string; readonly hostId: string; readonly layerId: string },
): Promise<void> {
  await set.tx
    .insertInto('layer_copies')
    .values({ layer_id: layerId, host_id: hostId })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const line = '[caisson] no host with the disk of the step it builds in has room: the disk is brought to another one';
  set.addOutput(jobId, { stream: 'meta', bytes: Buffer.from(`${line}\n`), atMs: set.nowMs });
}

interface WaitingJob {
  readonly id: string;
  readonly buildId: string;
  /** As PostgreSQL writes it, to the microsecond. */
  readonly scheduledAt: string;
  readonly snapshot: SnapshotRow;
  readonly needsMemorySnapshots: boolean;
}

async function loadWaiting(tx: Tx, after: WaitingJob | null, defaults: PlaceDefaults): Promise<readonly WaitingJob[]> {
  let query = waitingJobs(tx, defaults)
    .select(sql<string>`jobs.scheduled_at::text`.as('scheduled_at'))
    .limit(jobsPerPage);
  if (after !== null)
    query = query.where(
      sql<boolean>`(jobs.scheduled_at, jobs.id) > (${after.scheduledAt}::timestamptz, ${after.id}::uuid)`,
    );
  const rows = await query.execute();
  return rows.map((row) => ({
    id: row.id,
    buildId: row.build_id,
    scheduledAt: row.scheduled_at,
    snapshot: row,
    needsMemorySnapshots: row.needs_memory_snapshots,
  }));
}

/** A host that refuses new work still goes on with what it has begun, so that this comes to an end. */
export async function loadHosts(tx: Tx): Promise<Map<string, HostRow>> {
  const rows = await tx
    .selectFrom('hosts')
    .leftJoin('capsules', (join) => join.onRef('capsules.host_id', '=', 'hosts.id').on('capsules.ended_at', 'is', null))
    .select(['hosts.id', 'hosts.cpus', 'hosts.memory_bytes', 'hosts.disk_bytes'])
    .select(['hosts.memory_snapshots', 'hosts.refuses', 'hosts.driver', 'hosts.runtime'])
    .select(({ fn }) => [
      fn.sum<number | null>('capsules.cpus').as('used_cpus'),
      sql<number | null>`sum(capsules.memory_bytes)::float8`.as('used_memory'),
      sql<number | null>`sum(capsules.disk_bytes)::float8`.as('used_disk'),
      sql<boolean>`coalesce(hosts.last_seen_at > clock_timestamp() - ${silentMs} * interval '1 millisecond', false)`.as(
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
        status: !row.is_online ? 'lost' : row.refuses === null ? 'online' : 'draining',
        driver: row.driver,
        runtime: row.runtime,
        refuses: row.refuses,
        memorySnapshots: row.memory_snapshots,
        capacity: { cpus: row.cpus, memoryBytes: row.memory_bytes, diskBytes: row.disk_bytes },
        used: { cpus: row.used_cpus ?? 0, memoryBytes: row.used_memory ?? 0, diskBytes: row.used_disk ?? 0 },
      },
    ]),
  );
}

function withUsed(host: HostRow, shape: CapsuleShape): HostRow {
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
