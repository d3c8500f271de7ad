import type { Handler } from './operation.ts';
import { readPage } from './page.ts';
import { presentBuild } from './present.ts';
import { findPipeline } from './scope.ts';
import { selectBuilds } from './select.ts';

export const listBuilds: Handler<'listBuilds'> = async (deps, caller, { path, query }) => {
  const { pipeline } = await findPipeline(deps, caller, { ...path, action: 'build.list' });
  const builds = selectBuilds(deps.db).where('builds.pipeline_id', '=', pipeline.id);
  const page = await readPage(builds, { table: 'builds', direction: 'desc', query });
  return { data: page.rows.map(presentBuild), next_cursor: page.nextCursor };
};
