import type { Handler } from './operation.ts';
import { readPage } from './page.ts';
import { presentPipeline } from './present.ts';
import { findOrganization } from './scope.ts';
import { selectPipelines } from './select.ts';

export const listPipelines: Handler<'listPipelines'> = async (deps, caller, { path, query }) => {
  const organization = await findOrganization(deps, caller, { ...path, action: 'pipeline.list' });
  const current = selectPipelines(deps.db)
    .where('organization_id', '=', organization.id)
    .where('archived_at', 'is', null);
  const page = await readPage(current, { table: 'pipelines', direction: 'asc', query });
  return { data: page.rows.map(presentPipeline), next_cursor: page.nextCursor };
};
