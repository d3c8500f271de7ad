import type { CapsuleShape } from '@caisson/contracts/host-api';
import { type Capsule, type CapsuleEvent, stepCapsule } from '@caisson/core/capsule';
import { sql } from 'kysely';
import type { Database, Tx } from '../store/database.ts';
import type { JobStateRow } from '../store/job-row.ts';
import type { CapsulesTable, LeasesTable } from '../store/schema.ts';

/** A host that was silent for this long, while somebody listened, has lost its leases. */
export const leaseMs = 15_000;

/** A capsule that is not up after this long will not come up. */
export const startTimeoutMs = 1_200_000;

/** A lease and its capsule, as they will be once the change commits. */
export interface HeldLease {
  readonly id: string;
  readonly host_id: string;
  readonly job_id: string;
  readonly capsule_id: string;
  readonly status: 'held' | 'done' | 'lost';
  readonly acknowledged_seq: number;
  readonly cancel_reason: LeasesTable['cancel_reason'];
  readonly due_at: Date | null;
  readonly released_at: Date | null;
  readonly capsule: CapsuleState;
}

interface CapsuleState {
  readonly organization_id: string;
  readonly status: CapsulesTable['status'];
  readonly started_at: Date | null;
  readonly ended_at: Date | null;
  readonly cpus: number;
  readonly memory_bytes: number;
  readonly disk_bytes: number;
}

/** A new lease that gives a job to a host, with a capsule of its own. */
export function newLease(
  job: JobStateRow,
  { hostId, shape, newId, nowMs }: { hostId: string; shape: CapsuleShape; newId: () => string; nowMs: number },
): HeldLease {
  return {
    id: newId(),
    host_id: hostId,
    job_id: job.id,
    capsule_id: newId(),
    status: 'held',
    acknowledged_seq: 0,
    cancel_reason: null,
    due_at: new Date(nowMs + startTimeoutMs),
    released_at: null,
    capsule: {
      organization_id: job.organization_id,
      status: 'creating',
      started_at: null,
      ended_at: null,
      cpus: shape.cpus,
      memory_bytes: shape.memoryBytes,
      disk_bytes: shape.diskBytes,
    },
  };
}

/** Locks leases, in the order of their ids as everybody does, and reads them with their capsules. */
export async function lockLeases(tx: Tx, ids: readonly string[]): Promise<readonly HeldLease[]> {
  const { rows } = await sql<
    Omit<HeldLease, 'capsule'> & Omit<CapsuleState, 'status'> & { capsule_status: CapsuleState['status'] }
  >`
    select l.id, l.host_id, l.job_id, l.capsule_id, l.status, l.acknowledged_seq, l.cancel_reason, l.due_at, l.released_at,
      c.organization_id, c.status as capsule_status, c.started_at, c.ended_at, c.cpus, c.memory_bytes, c.disk_bytes
    from leases l join capsules c on c.id = l.capsule_id
    where l.id = any(${ids}::uuid[])
    order by l.id for no key update of l`.execute(tx);
  return rows.map(
    ({ organization_id, capsule_status: status, started_at, ended_at, cpus, memory_bytes, disk_bytes, ...lease }) => ({
      ...lease,
      capsule: { organization_id, status, started_at, ended_at, cpus, memory_bytes, disk_bytes },
    }),
  );
}

/** The lease and its capsule after their end; what the host still says under it is refused from here on. */
export function endedLease(lease: HeldLease, isLost: boolean, nowMs: number): HeldLease {
  if (lease.status !== 'held') return lease;
  const ended: HeldLease = {
    ...lease,
    status: isLost ? 'lost' : 'done',
    due_at: null,
    released_at: new Date(nowMs),
  };
  return withCapsule(ended, { kind: isLost ? 'lost' : 'stopped' }, nowMs);
}

/** The lease with its capsule after an event; a refusal changes nothing. */
export function withCapsule(lease: HeldLease, event: CapsuleEvent, nowMs: number): HeldLease {
  const { status, started_at, ended_at } = lease.capsule;
  const step = stepCapsule(
    { status, startedAtMs: started_at?.getTime() ?? null, endedAtMs: ended_at?.getTime() } as Capsule,
    event,
    nowMs,
  );
  if (!step.ok) return lease;
  const { state } = step;
  const dateOf = (ms: number | null): Date | null => (ms === null ? null : new Date(ms));
  return {
    ...lease,
    capsule: {
      ...lease.capsule,
      status: state.status,
      started_at: 'startedAtMs' in state ? dateOf(state.startedAtMs) : null,
      ended_at: 'endedAtMs' in state ? new Date(state.endedAtMs) : null,
    },
  };
}

/** Ends capsules older than this that take room on a host without a lease, e.g. since their job was deleted. */
export async function endOrphanedCapsules(db: Database, olderThanMs: number): Promise<void> {
  await sql`
    update capsules set status = 'lost', ended_at = clock_timestamp()
    where ended_at is null
      and created_at < clock_timestamp() - ${olderThanMs} * interval '1 millisecond'
      and not exists (select from leases where leases.capsule_id = capsules.id and leases.status = 'held')`.execute(db);
}
