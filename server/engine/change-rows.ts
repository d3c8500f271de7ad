import { sql } from 'kysely';
import type { BuildRow } from '../store/build-row.ts';
import type { Tx } from '../store/database.ts';
import type { JobStateRow } from '../store/job-row.ts';
import { type HeldLease, leaseMs } from './lease.ts';

// Every statement takes its rows as one JSON document: its text stays the same however many they are, and one round trip does.

/** Writes the states of these jobs. */
export async function writeJobs(tx: Tx, jobs: readonly JobStateRow[]): Promise<void> {
  if (jobs.length === 0) return;
  await sql`
    update jobs set status = v.status, attempt = v.attempt, lease_id = v.lease_id, layer_id = v.layer_id,
      exit_code = v.exit_code, error_code = v.error_code, error_message = v.error_message,
      scheduled_at = v.scheduled_at, started_at = v.started_at, finished_at = v.finished_at
    from json_to_recordset(${JSON.stringify(jobs)}::json) as v(id uuid, status text, attempt integer, lease_id uuid,
      layer_id uuid, exit_code integer, error_code text, error_message text, scheduled_at timestamptz,
      started_at timestamptz, finished_at timestamptz)
    where jobs.id = v.id`.execute(tx);
}

/** Writes the states of these builds. */
export async function writeBuilds(tx: Tx, builds: readonly BuildRow[]): Promise<void> {
  if (builds.length === 0) return;
  const rows = builds.map(({ env: _env, ...build }) => build);
  await sql`
    update builds set status = v.status, cancel_requested = v.cancel_requested, timed_out = v.timed_out,
      planned_at = v.planned_at, deadline_at = v.deadline_at, error_code = v.error_code, error_message = v.error_message,
      started_at = v.started_at, finished_at = v.finished_at
    from json_to_recordset(${JSON.stringify(rows)}::json) as v(id uuid, status text, cancel_requested boolean,
      timed_out boolean, planned_at timestamptz, deadline_at timestamptz, error_code text, error_message text,
      started_at timestamptz, finished_at timestamptz)
    where builds.id = v.id`.execute(tx);
}

/** Inserts new leases with their capsules; the fences grow in the order given. */
export async function insertLeases(tx: Tx, leases: readonly HeldLease[]): Promise<void> {
  if (leases.length === 0) return;
  const rows = JSON.stringify(
    leases.map(({ capsule, ...lease }) => ({ ...lease, ...capsule, id: lease.id, capsule_status: capsule.status })),
  );
  await sql`
    with new as (
      select * from json_to_recordset(${rows}::json) as v(id uuid, capsule_id uuid, organization_id uuid, host_id uuid,
        job_id uuid, capsule_status text, cpus double precision, memory_bytes bigint, disk_bytes bigint, due_at timestamptz)
    ), added as (
      insert into capsules (id, organization_id, host_id, owner_kind, owner_id, status, cpus, memory_bytes, disk_bytes)
      select capsule_id, organization_id, host_id, 'job', job_id, capsule_status, cpus, memory_bytes, disk_bytes from new
    )
    insert into leases (id, host_id, job_id, capsule_id, due_at, expires_at)
    select id, host_id, job_id, capsule_id, due_at, clock_timestamp() + ${leaseMs} * interval '1 millisecond'
    from new`.execute(tx);
}

/**
 * Writes what a change says about leases and capsules; when leases expire is the business of others. A host that speaks under a lease
 * has it, whether its answer to the hand-over came back or not: were it handed over again, a host that lost its disk meanwhile would
 * begin the command a second time under the same fence.
 */
export async function writeLeases(tx: Tx, leases: readonly HeldLease[]): Promise<void> {
  if (leases.length === 0) return;
  const rows = leases.map(({ capsule: { status, started_at, ended_at }, ...lease }) => {
    return { ...lease, capsule_status: status, started_at, ended_at };
  });
  await sql`
    with changed as (
      select * from json_to_recordset(${JSON.stringify(rows)}::json) as v(id uuid, capsule_id uuid, status text,
        acknowledged_seq bigint, cancel_reason text, due_at timestamptz, released_at timestamptz, capsule_status text,
        started_at timestamptz, ended_at timestamptz)
    ), written as (
      update capsules set status = v.capsule_status, started_at = v.started_at, ended_at = v.ended_at
      from changed v where capsules.id = v.capsule_id and capsules.status <> v.capsule_status
    )
    update leases set status = v.status, acknowledged_seq = v.acknowledged_seq, cancel_reason = v.cancel_reason,
      due_at = v.due_at, released_at = v.released_at,
      dispatched_at = coalesce(leases.dispatched_at, case when v.acknowledged_seq > 0 then clock_timestamp() end)
    from changed v where leases.id = v.id`.execute(tx);
}

/** One line of the log of events. */
export interface NewEvent {
  readonly organization_id: string;
  readonly kind: string;
  readonly subject: string;
  readonly payload: { readonly cause: string };
}

export async function insertEvents(tx: Tx, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  await sql`
    insert into events (organization_id, kind, subject, payload)
    select organization_id, kind, subject, payload
    from json_to_recordset(${JSON.stringify(events)}::json)
      as v(organization_id uuid, kind text, subject uuid, payload jsonb)`.execute(tx);
}

/** A sealed disk that a run has left on its host. */
export interface NewLayer {
  readonly id: string;
  readonly organization_id: string;
  readonly host_id: string;
  readonly build_id: string;
  readonly job_id: string;
  /** Nobody needs it: the host is to delete it. */
  readonly isReleased: boolean;
}

export async function insertLayers(tx: Tx, layers: readonly NewLayer[]): Promise<void> {
  if (layers.length === 0) return;
  await sql`
    insert into layers (id, organization_id, host_id, build_id, job_id, released_at)
    select id, organization_id, host_id, build_id, job_id, case when "isReleased" then clock_timestamp() end
    from json_to_recordset(${JSON.stringify(layers)}::json) as v(id uuid, organization_id uuid, host_id uuid,
      build_id uuid, job_id uuid, "isReleased" boolean)
    on conflict (id) do nothing`.execute(tx);
}

/** The sealed disks of these builds are not needed any more. Returns the hosts that have some. */
export async function releaseLayers(tx: Tx, buildIds: readonly string[]): Promise<readonly string[]> {
  if (buildIds.length === 0) return [];
  const { rows } = await sql<{ host_id: string }>`
    update layers set released_at = clock_timestamp()
    where build_id = any(${buildIds}::uuid[]) and released_at is null
    returning host_id`.execute(tx);
  return rows.map(({ host_id }) => host_id);
}
