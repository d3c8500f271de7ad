import { assertNever } from '@caisson/core/assert-never';
import type { Job } from '@caisson/core/job';
import { defaultMaxAttempts } from '@caisson/core/step-job';
import type { Selectable } from 'kysely';
import type { JobsTable } from './schema.ts';

export type JobRow = Selectable<JobsTable>;

/** What the engine reads of a job to change its state: everything but what it runs. */
export const jobStateColumns = [
  'id',
  'organization_id',
  'build_id',
  'kind',
  'status',
  'timeout_ms',
  'is_parent',
  'snapshot',
  'attempt',
  'lease_id',
  'layer_id',
  'exit_code',
  'error_code',
  'error_message',
  'scheduled_at',
  'started_at',
  'finished_at',
] as const;
export type JobStateRow = Pick<JobRow, (typeof jobStateColumns)[number]>;

/** The job of a row, as the state machine sees it. A row that no state describes is corrupt and throws. */
export function jobOf(row: JobStateRow): Job {
  const attempts = { attempt: row.attempt, maxAttempts: defaultMaxAttempts };
  const startedAtMs = row.started_at?.getTime() ?? null;
  switch (row.status) {
    case 'pending':
      return { ...attempts, status: row.status };
    case 'scheduled':
      return { ...attempts, status: row.status, scheduledAtMs: must(row.scheduled_at, row).getTime() };
    case 'assigned':
      return { ...attempts, ...heldOf(row), status: row.status };
    case 'running':
      return { ...attempts, ...heldOf(row), status: row.status, startedAtMs: must(startedAtMs, row) };
    case 'canceling':
      return { ...attempts, ...heldOf(row), status: row.status, startedAtMs };
    case 'timing_out':
      return { ...attempts, ...heldOf(row), status: row.status, startedAtMs, error: must(errorOf(row), row) };
    case 'passed':
      return { ...attempts, ...finishedOf(row), status: row.status, exitCode: row.exit_code };
    case 'failed':
      return { ...attempts, ...finishedOf(row), status: row.status, exitCode: row.exit_code, error: errorOf(row) };
    case 'skipped':
    case 'canceled':
      return { ...attempts, ...finishedOf(row), status: row.status };
    case 'timed_out':
      return { ...attempts, ...finishedOf(row), status: row.status, error: must(errorOf(row), row) };
    default:
      return assertNever(row.status);
  }
}

/** The columns of a job's state; every one of them, so that nothing of an earlier state stays. */
export function jobColumns(job: Job) {
  const error = 'error' in job ? job.error : null;
  return {
    status: job.status,
    attempt: job.attempt,
    lease_id: 'leaseId' in job ? job.leaseId : null,
    scheduled_at: 'scheduledAtMs' in job ? dateOf(job.scheduledAtMs) : null,
    started_at: 'startedAtMs' in job ? dateOf(job.startedAtMs) : null,
    finished_at: 'finishedAtMs' in job ? dateOf(job.finishedAtMs) : null,
    exit_code: 'exitCode' in job ? job.exitCode : null,
    error_code: error?.code ?? null,
    error_message: error?.message ?? null,
  };
}

function heldOf(row: JobStateRow): { leaseId: string; scheduledAtMs: number } {
  return { leaseId: must(row.lease_id, row), scheduledAtMs: must(row.scheduled_at, row).getTime() };
}

function finishedOf(row: JobStateRow): {
  scheduledAtMs: number | null;
  startedAtMs: number | null;
  finishedAtMs: number;
} {
  return {
    scheduledAtMs: row.scheduled_at?.getTime() ?? null,
    startedAtMs: row.started_at?.getTime() ?? null,
    finishedAtMs: must(row.finished_at, row).getTime(),
  };
}

function errorOf(row: JobStateRow): { code: string; message: string } | null {
  return row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' };
}

function must<T>(value: T | null, row: JobStateRow): T {
  if (value === null) throw new Error(`job ${row.id} is ${row.status} but a column of that state is null`);
  return value;
}

function dateOf(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms);
}
