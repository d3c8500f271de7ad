import type { HostView, PlaceRequest } from '@caisson/core/place';
import { type RawBuilder, sql } from 'kysely';
import type { Tx } from '../store/database.ts';
import type { RunDefaults } from './assignment.ts';

/** A host that could not be given a disk is not tried again for this long. */
const refusalMs = 60_000;

/** A host with what decides whose disks it can use. */
export interface HostRow extends HostView {
  readonly driver: string;
  readonly runtime: string;
  readonly refuses: string | null;
}

/** Where the disk is from which a job starts. */
export interface SnapshotRow {
  /** Whether it starts from an image instead. */
  readonly is_root: boolean;
  /** Null when it is gone. */
  readonly layer_id: string | null;
  readonly made_by: string | null;
  readonly copied_to: readonly string[];
  readonly refused_by: readonly string[];
  /** Whether the control plane has all of it, as far as it knows; `bring-layer.ts` looks. */
  readonly is_stored: boolean;
  readonly has_waited: boolean;
  readonly starts_from_memory: boolean;
}

/** Jobs that wait for a host, the longest waiting first, each with where its disk is. */
export function waitingJobs(tx: Tx, { copyAfterMs }: Pick<RunDefaults, 'copyAfterMs'>) {
  const copies = (which: RawBuilder<boolean>) => sql<string[]>`
    array(select c.host_id::text from layer_copies c where c.layer_id = layers.id and ${which} order by 1)`;
  const isRecent = sql<boolean>`c.refused_at > clock_timestamp() - ${refusalMs} * interval '1 millisecond'`;
  return tx
    .selectFrom('jobs')
    .leftJoin('jobs as parents', 'parents.id', 'jobs.builds_in')
    .leftJoin('layers', 'layers.id', 'parents.layer_id')
    .select(['jobs.id', 'jobs.build_id', 'jobs.needs_memory_snapshots', 'layers.id as layer_id'])
    .select([
      sql<boolean>`jobs.builds_in is null`.as('is_root'),
      'layers.host_id as made_by',
      copies(sql`c.arrived_at is not null`).as('copied_to'),
      copies(isRecent).as('refused_by'),
      sql<boolean>`exists (select from layer_blobs b where b.copy_id = layers.id::text)`.as('is_stored'),
      sql<boolean>`jobs.scheduled_at < clock_timestamp() - ${copyAfterMs} * interval '1 millisecond'`.as('has_waited'),
      sql<boolean>`coalesce(parents.snapshot = 'memory', false)`.as('starts_from_memory'),
    ])
    .where('jobs.status', '=', 'scheduled')
    .orderBy('jobs.scheduled_at')
    .orderBy('jobs.id');
}

/** The hosts that have the disk of a job, and those it may be brought to. */
export function snapshotHostsOf(
  row: SnapshotRow,
  hosts: ReadonlyMap<string, HostRow>,
): Pick<PlaceRequest, 'snapshotHostIds' | 'copyHostIds'> {
  if (row.is_root) return { snapshotHostIds: null, copyHostIds: [] };
  const snapshotHostIds = [...(row.made_by === null ? [] : [row.made_by]), ...row.copied_to];
  return { snapshotHostIds, copyHostIds: copyHosts(row, snapshotHostIds, hosts) };
}

function copyHosts(
  row: SnapshotRow,
  holderIds: readonly string[],
  hosts: ReadonlyMap<string, HostRow>,
): readonly string[] {
  const holders = holderIds.flatMap((id) => hosts.get(id) ?? []);
  const [first] = holders;
  const isToBeHad = row.is_stored || holders.some(({ status }) => status !== 'lost');
  if (first === undefined || !row.has_waited || !isToBeHad) return [];
  const isAlike = ({ driver, runtime }: HostRow) =>
    driver === first.driver && (!row.starts_from_memory || runtime === first.runtime);
  return [...hosts.values()]
    .filter((host) => isAlike(host) && !row.refused_by.includes(host.hostId))
    .map(({ hostId }) => hostId);
}
