import { AppError } from '@caisson/contracts/app-error';
import { repoNameOf } from '@caisson/contracts/ci/repo-name';
import { slugOf } from '@caisson/contracts/ci/slugs';
import { v7 as uuidv7 } from 'uuid';
import type { Handler } from './operation.ts';
import { presentPipeline } from './present.ts';
import { findOrganization } from './scope.ts';
import { selectPipelines } from './select.ts';

export const createPipeline: Handler<'createPipeline'> = async (deps, caller, { path, body }) => {
  const organization = await findOrganization(deps, caller, { ...path, action: 'pipeline.create' });
  const slug = slugOf(body.name);
  if (slug === '') throw new AppError('pipeline_invalid', 'name needs at least one letter from a to z or a digit');
  const row = await deps.db
    .insertInto('pipelines')
    .values({
      id: uuidv7(),
      organization_id: organization.id,
      slug,
      name: body.name.trim(),
      repository: body.repository.trim(),
      default_branch: body.default_branch.trim(),
      repo_name: body.repo_name?.trim() || repoNameOf(body.repository),
      // Never null, so that a build by source finds it.
      source_slug: body.source_slug?.trim() || slug,
      description: body.description ?? null,
    })
    .onConflict((conflict) => conflict.columns(['organization_id', 'slug']).doNothing())
    .returning('id')
    .executeTakeFirst();
  if (!row) throw new AppError('pipeline_slug_taken', `a pipeline with the slug ${slug} exists; choose another name`);
  return presentPipeline(await selectPipelines(deps.db).where('id', '=', row.id).executeTakeFirstOrThrow());
};
