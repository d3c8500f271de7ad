import { sql } from 'kysely';
import type { Database } from '../../store/database.ts';
import { isoTime, isoTimeOrNull } from './iso-time.ts';

/** Columns of `builds` the wire shows, with the slug of the pipeline. */
export function selectBuilds(db: Database) {
  return db
    .selectFrom('builds')
    .innerJoin('pipelines', 'pipelines.id', 'builds.pipeline_id')
    .select(['builds.id', 'builds.number', 'builds.status', 'builds.trigger', 'builds.branch', 'builds.commit'])
    .select(['builds.message', 'builds.error_code', 'builds.error_message', 'pipelines.slug as pipeline_slug'])
    .select([
      isoTime('builds.created_at').as('created_at'),
      isoTimeOrNull('builds.scheduled_at').as('scheduled_at'),
      isoTimeOrNull('builds.started_at').as('started_at'),
      isoTimeOrNull('builds.finished_at').as('finished_at'),
    ]);
}
export type BuildRow = Row<typeof selectBuilds>;

/** The steps of builds; renderings are not jobs to the outside. `depends_on` is in the order of the plan. */
export function selectJobs(db: Database) {
  return db
    .selectFrom('jobs')
    .where('jobs.kind', '=', 'step')
    .select(['jobs.id', 'jobs.step_key', 'jobs.name', 'jobs.status', 'jobs.command', 'jobs.exit_code'])
    .select(['jobs.error_code', 'jobs.error_message'])
    .select([
      sql<string[]>`array(
        select need.id::text from job_dependencies edge join jobs need on need.id = edge.needs_job_id
        where edge.job_id = jobs.id order by need.position)`.as('depends_on'),
      isoTime('jobs.created_at').as('created_at'),
      isoTimeOrNull('jobs.started_at').as('started_at'),
      isoTimeOrNull('jobs.finished_at').as('finished_at'),
    ]);
}
export type JobRow = Row<typeof selectJobs>;

export function selectPipelines(db: Database) {
  return db
    .selectFrom('pipelines')
    .select(['id', 'slug', 'name', 'repository', 'default_branch', 'visibility', 'allow_manual'])
    .select(['repo_name', 'source_slug', 'description', isoTime('pipelines.created_at').as('created_at')]);
}
export type PipelineRow = Row<typeof selectPipelines>;

export function selectOrganizations(db: Database) {
  return db
    .selectFrom('organizations')
    .select(['organizations.id', 'organizations.slug', 'organizations.name', 'organizations.url'])
    .select(isoTime('organizations.created_at').as('created_at'));
}
export type OrganizationRow = Row<typeof selectOrganizations>;

export function selectApiTokens(db: Database) {
  return db
    .selectFrom('tokens')
    .where('kind', '=', 'personal')
    .select(['id', 'description'])
    .select([
      isoTime('tokens.created_at').as('created_at'),
      isoTimeOrNull('tokens.expires_at').as('expires_at'),
      isoTimeOrNull('tokens.last_used_at').as('last_used_at'),
    ]);
}
export type ApiTokenRow = Row<typeof selectApiTokens>;

type Row<Select extends (db: Database) => { executeTakeFirstOrThrow(): Promise<unknown> }> = Awaited<
  ReturnType<ReturnType<Select>['executeTakeFirstOrThrow']>
>;
