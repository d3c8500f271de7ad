import type { CapsuleShape } from '@caisson/contracts/host-api';
import { type Capsule, type CapsuleEvent, stepCapsule } from '@caisson/core/capsule';
import { sql } from 'kysely';
import { v7 as newId } from 'uuid';
import type { Tx } from '../store/database.ts';
import type { JobRow } from '../store/job-row.ts';

/** A host that was silent for this long, while somebody listened, has lost its leases. */
export const leaseMs = 15_000;

/** Gives a job to a host: a capsule and a lease with a fence above all earlier ones. Returns the lease's id. */
export async function takeLease(
  tx: Tx,
  job: JobRow,
  { hostId, shape }: { hostId: string; shape: CapsuleShape },
): Promise<string> {
  const capsule = { id: newId(), organization_id: job.organization_id, host_id: hostId };
  await tx
    .insertInto('capsules')
    .values({
      ...capsule,
      owner_kind: 'job',
      owner_id: job.id,
      status: 'creating',
      cpus: shape.cpus,
      memory_bytes: shape.memoryBytes,
      disk_bytes: shape.diskBytes,
    })
    .execute();
  const leaseId = newId();
  await tx
    .insertInto('leases')
    .values({
      id: leaseId,
      host_id: hostId,
      job_id: job.id,
      capsule_id: capsule.id,
      expires_at: sql<Date>`clock_timestamp() + ${leaseMs} * interval '1 millisecond'`,
    })
    .execute();
  return leaseId;
}

/** Ends a lease and its capsule; what the host still says under it is refused from here on. */
export async function endLease(
  tx: Tx,
  { leaseId, isLost }: { leaseId: string; isLost: boolean },
  nowMs: number,
): Promise<void> {
  const lease = await tx
    .updateTable('leases')
    .set({ status: isLost ? 'lost' : 'done', released_at: new Date(nowMs) })
    .where('id', '=', leaseId)
    .where('status', '=', 'held')
    .returning('capsule_id')
    .executeTakeFirst();
  if (lease !== undefined)
    await changeCapsule(tx, lease.capsule_id, { event: { kind: isLost ? 'lost' : 'stopped' }, nowMs });
}

/** Sends an event to a capsule; a refusal changes nothing. */
export async function changeCapsule(
  tx: Tx,
  capsuleId: string,
  { event, nowMs }: { event: CapsuleEvent; nowMs: number },
): Promise<void> {
  const row = await tx
    .selectFrom('capsules')
    .selectAll()
    .where('id', '=', capsuleId)
    .forUpdate()
    .executeTakeFirstOrThrow();
  const startedAtMs = row.started_at?.getTime() ?? null;
  const step = stepCapsule(
    { status: row.status, startedAtMs, endedAtMs: row.ended_at?.getTime() } as Capsule,
    event,
    nowMs,
  );
  if (!step.ok) return;
  await tx
    .updateTable('capsules')
    .set({
      status: step.state.status,
      started_at:
        'startedAtMs' in step.state && step.state.startedAtMs !== null ? new Date(step.state.startedAtMs) : null,
      ended_at: 'endedAtMs' in step.state ? new Date(step.state.endedAtMs) : null,
    })
    .where('id', '=', capsuleId)
    .execute();
}
