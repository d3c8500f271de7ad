import type { Build, BuildError } from '@caisson/core/build';
import type { Selectable } from 'kysely';
import type { BuildsTable } from './schema.ts';

export type BuildRow = Selectable<BuildsTable>;

/** The build of a row, as the state machine sees it. */
export function buildOf(row: BuildRow): Build {
  const startedAtMs = row.started_at?.getTime() ?? null;
  const error = errorOf(row);
  switch (row.status) {
    case 'scheduled':
      return { status: row.status, isPlanned: row.planned_at !== null, error };
    case 'running':
    case 'failing':
      return { status: row.status, startedAtMs, error };
    case 'canceling':
      return { status: row.status, startedAtMs };
    case 'passed':
    case 'failed':
    case 'canceled':
      if (row.finished_at === null) throw new Error(`build ${row.id} is ${row.status} but has no end`);
      return { status: row.status, startedAtMs, finishedAtMs: row.finished_at.getTime(), error };
  }
}

/** The columns of a build's state. `planned_at` is set by whoever plans it. */
export function buildColumns(build: Build) {
  const error = 'error' in build ? build.error : null;
  return {
    status: build.status,
    started_at: 'startedAtMs' in build && build.startedAtMs !== null ? new Date(build.startedAtMs) : null,
    finished_at: 'finishedAtMs' in build ? new Date(build.finishedAtMs) : null,
    cancel_requested: build.status === 'canceling' || build.status === 'canceled',
    timed_out: error?.code === 'pipeline_timeout',
    error_code: error?.code ?? null,
    error_message: error?.message ?? null,
  };
}

function errorOf(row: BuildRow): BuildError | null {
  return row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' };
}
