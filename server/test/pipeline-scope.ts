import { randomUUID } from 'node:crypto';
import type { NewBuild } from '../engine/engine.ts';
import type { Database } from '../store/database.ts';

/** What a build belongs to. */
export type PipelineScope = Pick<NewBuild, 'organizationId' | 'pipelineId'>;

/** Makes an organization `local` with a pipeline `ci`, straight in the tables. */
export async function addPipeline(db: Database): Promise<PipelineScope> {
  const [organizationId, pipelineId] = [randomUUID(), randomUUID()];
  await db
    .insertInto('organizations')
    .values({ id: organizationId, slug: 'local', name: 'Local', url: null })
    .execute();
  await db
    .insertInto('pipelines')
    .values({
      ...{ id: pipelineId, organization_id: organizationId, slug: 'ci', name: 'ci', default_branch: 'main' },
      ...{ repository: 'https://example.test/a/b.git', repo_name: 'a/b', source_slug: 'ci', description: null },
    })
    .execute();
  return { organizationId, pipelineId };
}

/** A build that asks for nothing in particular, but for the changes. */
export function newBuildOf(scope: PipelineScope, changes: Partial<NewBuild> & Pick<NewBuild, 'pipelineIr'>): NewBuild {
  return {
    ...{ trigger: 'api', createdBy: null, branch: 'main', commit: null, message: null, env: {} },
    ...{ sourceDigest: null, renderSlug: null, stopOnFailure: false },
    ...scope,
    ...changes,
  };
}
