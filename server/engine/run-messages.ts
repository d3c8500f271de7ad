import type { RunMessage } from '@caisson/contracts/host-api';
import type { Database, Tx } from '../store/database.ts';
import { appendChunks } from './job-log.ts';
import { changeCapsule } from './lease.ts';
import { notify } from './notifications.ts';
import { changeBuild, type TransitionDeps } from './transition.ts';

type OutputMessage = Extract<RunMessage, { kind: 'output' }>;
type StateMessage = Exclude<RunMessage, { kind: 'output' }>;

/** The lease a run's messages belong to. */
export interface LeaseOwner {
  readonly leaseId: string;
  readonly fence: number;
  readonly jobId: string;
  readonly buildId: string;
  readonly capsuleId: string;
}

/** Who a lease belongs to; null when there is no such lease with this fence. */
export async function findLease(db: Database, leaseId: string, fence: number): Promise<LeaseOwner | null> {
  const row = await db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .select(['leases.job_id', 'leases.capsule_id', 'jobs.build_id'])
    .where('leases.id', '=', leaseId)
    .where('leases.fence', '=', fence)
    .executeTakeFirst();
  if (row === undefined) return null;
  return { leaseId, fence, jobId: row.job_id, buildId: row.build_id, capsuleId: row.capsule_id };
}

/**
 * Stores what a host reports of one run, in order and each message once: `leases.acknowledged_seq` moves in the same transaction.
 * Messages under a lease that is not held any more are dropped.
 */
export async function applyMessages(
  deps: TransitionDeps,
  owner: LeaseOwner,
  messages: readonly RunMessage[],
): Promise<void> {
  let outputs: OutputMessage[] = [];
  for (const message of messages) {
    if (message.kind === 'output') {
      outputs.push(message);
      continue;
    }
    await storeOutput(deps.db, owner, outputs);
    outputs = [];
    await applyState(deps, owner, message);
  }
  await storeOutput(deps.db, owner, outputs);
}

async function storeOutput(db: Database, owner: LeaseOwner, messages: readonly OutputMessage[]): Promise<void> {
  const last = messages.at(-1);
  if (last === undefined) return;
  await db.transaction().execute(async (tx) => {
    const known = await advanceAcknowledged(tx, owner, last.seq);
    const fresh = known === null ? [] : messages.filter(({ seq }) => seq > known);
    if (fresh.length === 0) return;
    await appendChunks(tx, owner.jobId, fresh);
    await notify(tx, 'job', owner.jobId);
  });
}

/** Moves the mark to `seq` and returns where it was; null when the lease is not held any more. */
async function advanceAcknowledged(tx: Tx, { leaseId }: LeaseOwner, seq: number): Promise<number | null> {
  const lease = await tx
    .selectFrom('leases')
    .select(['acknowledged_seq', 'status'])
    .where('id', '=', leaseId)
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (lease?.status !== 'held') return null;
  if (seq > lease.acknowledged_seq) {
    await tx.updateTable('leases').set({ acknowledged_seq: seq }).where('id', '=', leaseId).execute();
  }
  return lease.acknowledged_seq;
}

async function applyState(deps: TransitionDeps, owner: LeaseOwner, message: StateMessage): Promise<void> {
  await changeBuild(deps, owner.buildId, async (change) => {
    const known = await advanceAcknowledged(change.tx, owner, message.seq);
    if (known === null || message.seq <= known) return;
    const { leaseId, jobId, capsuleId } = owner;
    const { atMs } = message;
    if (message.kind === 'started') {
      await changeCapsule(change.tx, capsuleId, { event: { kind: 'started' }, nowMs: change.nowMs });
      await change.job(jobId, { kind: 'started', leaseId, atMs });
      return;
    }
    const { result } = message;
    if (result.outcome === 'exited' && result.exitCode === 0) await keepLayer(change.tx, owner);
    await change.job(jobId, { kind: 'finished', leaseId, atMs, result });
  });
}

/** A passed job that others build in has left its disk on the host under the lease's id. */
async function keepLayer(tx: Tx, { leaseId, jobId }: LeaseOwner): Promise<void> {
  const job = await tx.selectFrom('jobs').selectAll().where('id', '=', jobId).executeTakeFirstOrThrow();
  if (!job.is_parent) return;
  const lease = await tx.selectFrom('leases').select('host_id').where('id', '=', leaseId).executeTakeFirstOrThrow();
  await tx
    .insertInto('layers')
    .values({
      id: leaseId,
      organization_id: job.organization_id,
      host_id: lease.host_id,
      build_id: job.build_id,
      job_id: jobId,
    })
    .execute();
  await tx.updateTable('jobs').set({ layer_id: leaseId }).where('id', '=', jobId).execute();
}
