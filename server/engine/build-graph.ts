import type { AdvanceJob } from '@caisson/core/advance';
import type { JobState } from '@caisson/core/job';
import { sql } from 'kysely';
import type { BuildRow } from '../store/build-row.ts';
import type { Tx } from '../store/database.ts';
import { type JobStateRow, jobStateColumns } from '../store/job-row.ts';

/** The jobs that speak for a build: its steps once it is planned, until then the one that renders it. */
function kindOf(build: BuildRow): 'render' | 'step' {
  return build.planned_at === null ? 'render' : 'step';
}

/** The whole graph of a build. */
export async function loadGraph(
  tx: Tx,
  build: BuildRow,
): Promise<{ rows: readonly JobStateRow[]; graph: readonly AdvanceJob[] }> {
  const rows = await tx
    .selectFrom('jobs')
    .select(jobStateColumns)
    .where('build_id', '=', build.id)
    .where('kind', '=', kindOf(build))
    .orderBy('position')
    .execute();
  const edges = await tx
    .selectFrom('job_dependencies')
    .select(['job_id', 'needs_job_id'])
    .where('build_id', '=', build.id)
    .execute();
  const needs = new Map<string, string[]>(rows.map(({ id }) => [id, []]));
  for (const edge of edges) needs.get(edge.job_id)?.push(edge.needs_job_id);
  return { rows, graph: rows.map(({ id, status }) => ({ id, state: status, dependsOn: needs.get(id) ?? [] })) };
}

/**
 * Pending jobs behind ones that have ended: those whose prerequisites have all passed, and those that will never run. The ends need
 * not be written yet.
 */
export async function loadDependents(
  tx: Tx,
  ended: readonly JobStateRow[],
): Promise<{ ready: readonly JobStateRow[]; doomed: readonly JobStateRow[] }> {
  if (ended.length === 0) return { ready: [], doomed: [] };
  const ids = ended.map(({ id }) => id);
  const passed = ended.filter(({ status }) => status === 'passed').map(({ id }) => id);
  const lost = ended.filter(({ status }) => status !== 'passed').map(({ id }) => id);
  const { rows } = await sql<JobStateRow & { is_doomed: boolean }>`
    select ${sql.join(jobStateColumns.map((column) => sql.ref(column)))}, is_doomed
    from (
      select d.*,
        exists (
          select from job_dependencies e where e.job_id = d.id and e.needs_job_id = any(${lost}::uuid[])
        ) as is_doomed,
        not exists (
          select from job_dependencies e join jobs n on n.id = e.needs_job_id where e.job_id = d.id
            and n.status <> 'passed' and n.id <> all(${passed}::uuid[])
        ) as is_ready
      from jobs d
      where d.status = 'pending'
        and d.id in (select job_id from job_dependencies where needs_job_id = any(${ids}::uuid[]))
    ) as dependents
    where is_doomed or is_ready
    order by position`.execute(tx);
  const ready = rows.filter(({ is_doomed }) => !is_doomed);
  return { ready, doomed: rows.filter(({ is_doomed }) => is_doomed) };
}

/** Which states occur among the jobs of each of these builds: all that its own state depends on. */
export async function loadStates(
  tx: Tx,
  builds: readonly BuildRow[],
): Promise<ReadonlyMap<string, readonly JobState[]>> {
  const states = new Map<string, JobState[]>(builds.map(({ id }) => [id, []]));
  if (builds.length === 0) return states;
  const wanted = JSON.stringify(builds.map((build) => ({ id: build.id, kind: kindOf(build) })));
  const { rows } = await sql<{ id: string; status: JobState }>`
    select v.id, s.status
    from json_to_recordset(${wanted}::json) as v(id uuid, kind text)
    cross join (values ('pending'), ('scheduled'), ('assigned'), ('running'), ('passed'), ('failed'), ('skipped'),
      ('canceling'), ('canceled'), ('timing_out'), ('timed_out')) as s(status)
    where exists (select from jobs where build_id = v.id and jobs.kind = v.kind and jobs.status = s.status)`.execute(
    tx,
  );
  for (const { id, status } of rows) states.get(id)?.push(status);
  return states;
}
