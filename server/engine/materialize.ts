import type { Plan, PlannedStep } from '@caisson/core/plan';
import type { Insertable } from 'kysely';
import type { BuildRow } from '../store/build-row.ts';
import type { JobDependenciesTable, JobsTable } from '../store/schema.ts';
import type { ChangeSet } from './change-set.ts';

// PostgreSQL takes at most 65,535 parameters in one statement.
const rowsPerInsert = 1_000;

/** Makes the jobs of a plan, all pending. */
export async function materialize(set: ChangeSet, build: BuildRow, plan: Plan): Promise<void> {
  const { tx } = set;
  const ids = new Map(plan.steps.map((step) => [step.key, set.newId()]));
  const parents = new Set(plan.steps.map((step) => step.buildsIn));
  const idOf = (key: string): string => {
    const id = ids.get(key);
    if (id === undefined) throw new Error(`the plan names no step ${key}`);
    return id;
  };
  const jobs = plan.steps.map((step, position) => ({
    ...jobRow(build, step, { id: idOf(step.key), position }),
    builds_in: step.buildsIn === null ? null : idOf(step.buildsIn),
    is_parent: parents.has(step.key),
  }));
  const edges = plan.steps.flatMap((step) =>
    step.dependsOn.map((needed) => ({ build_id: build.id, job_id: idOf(step.key), needs_job_id: idOf(needed) })),
  );
  for (const rows of slices(jobs)) await tx.insertInto('jobs').values(rows).execute();
  for (const rows of slices<Insertable<JobDependenciesTable>>(edges)) {
    await tx.insertInto('job_dependencies').values(rows).execute();
  }
}

/** The job that renders a build's pipeline from its source; its standard output is the IR. */
export function renderJob(build: BuildRow, id: string): Insertable<JobsTable> {
  return {
    id,
    organization_id: build.organization_id,
    build_id: build.id,
    kind: 'render',
    position: 0,
    step_key: 'render',
    name: 'render the pipeline',
    status: 'pending',
    command: '',
    image: null,
    env: '{}',
    timeout_ms: null,
    builds_in: null,
    snapshot: null,
    cache_key: null,
    runner: null,
    lease_id: null,
    layer_id: null,
    exit_code: null,
    error_code: null,
    error_message: null,
  };
}

function jobRow(build: BuildRow, step: PlannedStep, { id, position }: { id: string; position: number }) {
  return {
    ...renderJob(build, id),
    kind: 'step' as const,
    position,
    step_key: step.key,
    name: step.label,
    command: step.command,
    image: step.image,
    env: JSON.stringify(step.env),
    timeout_ms: step.timeoutMs,
    snapshot: step.snapshot === 'memory' ? step.snapshot : null,
    needs_memory_snapshots: step.needsMemorySnapshots,
    cache_key: step.cacheKey,
    runner: step.runner,
    runner_args: JSON.stringify(step.runnerArgs ?? null),
  };
}

function* slices<T>(rows: readonly T[]): Iterable<readonly T[]> {
  for (let start = 0; start < rows.length; start += rowsPerInsert) yield rows.slice(start, start + rowsPerInsert);
}
