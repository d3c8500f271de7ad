import { isUuid } from './is-uuid.ts';
import type { Handler } from './operation.ts';
import { presentJob } from './present.ts';
import { findBuild, notFound } from './scope.ts';
import { selectJobs } from './select.ts';

export const getJob: Handler<'getJob'> = async (deps, caller, { path }) => {
  const build = await findBuild(deps, caller, { ...path, action: 'job.view' });
  if (!isUuid(path.job_id)) throw notFound('job_not_found');
  const row = await selectJobs(deps.db)
    .where('jobs.build_id', '=', build.id)
    .where('jobs.id', '=', path.job_id)
    .executeTakeFirst();
  if (!row) throw notFound('job_not_found');
  return presentJob(row);
};
