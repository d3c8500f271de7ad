import { sql } from 'kysely';
import type { Handler } from './operation.ts';
import { presentBuild } from './present.ts';
import { findOrganization, notFound } from './scope.ts';
import { selectPipelines } from './select.ts';
import { startBuild } from './start-build.ts';

/** Names the pipeline by its repository and its slug there; of several the oldest is meant. */
export const createBuildBySource: Handler<'createBuildBySource'> = async (deps, caller, { path, body }) => {
  const organization = await findOrganization(deps, caller, { ...path, action: 'build.create' });
  const pipeline = await selectPipelines(deps.db)
    .where('organization_id', '=', organization.id)
    .where(sql<boolean>`lower(repo_name) = lower(${body.repo_name})`)
    .where('source_slug', '=', body.source_slug)
    .orderBy('pipelines.created_at')
    .orderBy('id')
    .executeTakeFirst();
  if (!pipeline) throw notFound('pipeline_not_found');
  const build = await startBuild(deps, caller, { organization, pipeline, body, renderSlug: body.source_slug });
  return presentBuild(build);
};
