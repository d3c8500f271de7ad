import { crashPoint } from '@caisson/contracts/crash-point';
import type { RunMessage, RunResult } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Database, Tx } from '../store/database.ts';
import type { JobStateRow } from '../store/job-row.ts';
import type { RunDefaults } from './assignment.ts';
import type { TransitionDeps } from './change-set.ts';
import { appendChunks } from './job-log.ts';
import { withCapsule } from './lease.ts';
import type { MessageBatch } from './message-queue.ts';
import type { Notice } from './notifications.ts';
import { type BuildChanges, changeBuilds } from './transition.ts';

/** A run whose host says nothing of its end this much later than its own time allows is ended from here. */
const overdueMs = 60_000;
/** Memory is written before the end is told, and there may be much of it. */
const keepMemoryMs = 600_000;

type OutputMessage = Extract<RunMessage, { kind: 'output' }>;

/** The lease a run's messages belong to. */
export interface LeaseOwner {
  readonly leaseId: string;
  readonly jobId: string;
  readonly buildId: string;
}

export interface MessageDeps extends TransitionDeps {
  readonly defaults: Pick<RunDefaults, 'jobTimeoutMs' | 'renderTimeoutMs' | 'graceMs'>;
}

/** Whom leases belong to. Those that do not exist with that fence are missing. */
export async function findLeases(
  db: Database,
  leases: readonly { leaseId: string; fence: number }[],
): Promise<readonly LeaseOwner[]> {
  const { rows } = await sql<{ id: string; job_id: string; build_id: string }>`
    select l.id, l.job_id, j.build_id
    from json_to_recordset(${JSON.stringify(leases)}::json) as v("leaseId" uuid, fence bigint)
    join leases l on l.id = v."leaseId" and l.fence = v.fence
    join jobs j on j.id = l.job_id`.execute(db);
  return rows.map(({ id, job_id, build_id }) => ({ leaseId: id, jobId: job_id, buildId: build_id }));
}

/**
 * Stores what a host reports of its runs, in order and each message once: `leases.acknowledged_seq` moves in the same transaction.
 * Messages under a lease that is not held any more are dropped.
 */
export async function applyMessages(
  deps: MessageDeps,
  owners: readonly LeaseOwner[],
  messages: MessageBatch,
): Promise<void> {
  const isOutput = owners.every(({ leaseId }) => messages.get(leaseId)?.every(({ kind }) => kind === 'output'));
  if (isOutput) await storeOutput(deps, owners, messages);
  else {
    const buildIds = [...new Set(owners.map(({ buildId }) => buildId))];
    await changeBuilds(deps, buildIds, (changes) => applyRuns(deps, changes, { owners, messages }));
  }
  crashPoint('messages.stored');
}

/** Output needs no lock on its build: neither waits for the other. */
async function storeOutput(deps: MessageDeps, owners: readonly LeaseOwner[], messages: MessageBatch): Promise<void> {
  const notices = new Set<Notice>();
  await deps.db.transaction().execute(async (tx) => {
    const known = await moveMarks(tx, owners, messages);
    const output = new Map<string, OutputMessage[]>();
    for (const { leaseId, jobId } of owners) {
      const seq = known.get(leaseId) ?? Number.POSITIVE_INFINITY;
      const fresh = (messages.get(leaseId) ?? []).filter(isOutput).filter((message) => message.seq > seq);
      if (fresh.length === 0) continue;
      output.set(jobId, fresh);
      notices.add(`job:${jobId}`);
    }
    await appendChunks(tx, output);
    await deps.notifications.tell(tx, notices);
  });
  deps.notifications.wake(notices);
}

function isOutput(message: RunMessage): message is OutputMessage {
  return message.kind === 'output';
}

/** Moves the marks of held leases behind their last message and returns where they were. */
async function moveMarks(
  tx: Tx,
  owners: readonly LeaseOwner[],
  messages: MessageBatch,
): Promise<ReadonlyMap<string, number>> {
  const marks = owners.map(({ leaseId }) => ({ id: leaseId, seq: messages.get(leaseId)?.at(-1)?.seq ?? 0 }));
  const { rows } = await sql<{ id: string; known: number }>`
    with known as (
      select id, acknowledged_seq from leases
      where id = any(${marks.map(({ id }) => id)}::uuid[]) and status = 'held'
      order by id for no key update
    )
    update leases set acknowledged_seq = greatest(known.acknowledged_seq, v.seq),
      dispatched_at = coalesce(leases.dispatched_at, clock_timestamp())
    from known join json_to_recordset(${JSON.stringify(marks)}::json) as v(id uuid, seq bigint) on v.id = known.id
    where leases.id = known.id
    returning leases.id, known.acknowledged_seq as known`.execute(tx);
  return new Map(rows.map(({ id, known }) => [id, known]));
}

async function applyRuns(
  deps: MessageDeps,
  changes: BuildChanges,
  { owners, messages }: { owners: readonly LeaseOwner[]; messages: MessageBatch },
): Promise<void> {
  const { set } = changes;
  await set.readLeases(owners.map(({ leaseId }) => leaseId));
  await set.readJobs(owners.map(({ jobId }) => jobId));
  for (const owner of owners) {
    for (const message of messages.get(owner.leaseId) ?? []) await applyMessage(deps, changes, { owner, message });
  }
}

async function applyMessage(
  deps: MessageDeps,
  { set, builds }: BuildChanges,
  { owner, message }: { owner: LeaseOwner; message: RunMessage },
): Promise<void> {
  const { leaseId, jobId, buildId } = owner;
  const lease = set.lease(leaseId);
  const job = set.job(jobId);
  const build = builds.get(buildId);
  if (lease === undefined || job === undefined || build === undefined) return;
  if (message.seq <= lease.acknowledged_seq) return;
  const hasSealed = message.kind === 'finished' && job.is_parent && isPass(message.result);
  const layer = { id: leaseId, organization_id: job.organization_id, host_id: lease.host_id };
  if (lease.status !== 'held') {
    // Its disk is nobody's; the host would keep it for ever.
    if (hasSealed) set.addLayer({ ...layer, build_id: buildId, job_id: jobId, isReleased: true });
    return;
  }
  set.putLease({ ...lease, acknowledged_seq: message.seq });
  const { atMs } = message;
  switch (message.kind) {
    case 'output':
      return set.addOutput(jobId, message);
    case 'started': {
      const { ok } = await build.job(jobId, { kind: 'started', leaseId, atMs });
      const now = set.lease(leaseId);
      if (now === undefined) return;
      const started = withCapsule(now, { kind: 'started' }, set.nowMs);
      set.putLease(ok ? { ...started, due_at: new Date(set.nowMs + longestMs(deps, job)) } : started);
      return;
    }
    case 'finished':
      if (hasSealed) {
        set.addLayer({ ...layer, build_id: buildId, job_id: jobId, isReleased: false });
        set.putJob({ ...job, layer_id: leaseId });
      }
      await build.job(jobId, { kind: 'finished', leaseId, atMs, result: storable(message.result) });
  }
}

/** How long a command may take until its host must have reported the end. */
function longestMs(
  { defaults }: MessageDeps,
  { kind, timeout_ms, snapshot }: Pick<JobStateRow, 'kind' | 'timeout_ms' | 'snapshot'>,
): number {
  const timeoutMs = kind === 'render' ? defaults.renderTimeoutMs : (timeout_ms ?? defaults.jobTimeoutMs);
  return timeoutMs + defaults.graceMs + overdueMs + (snapshot === null ? 0 : keepMemoryMs);
}

function isPass(result: RunResult): boolean {
  return result.outcome === 'exited' && result.exitCode === 0 && result.signal === null;
}

/** PostgreSQL takes neither NUL nor half a surrogate pair, and a message may quote what a stranger's program wrote. */
function storable(result: RunResult): RunResult {
  if (result.outcome !== 'failed') return result;
  return { ...result, message: result.message.replaceAll('\0', '').toWellFormed() };
}
