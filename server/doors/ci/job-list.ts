import type { Handler } from './operation.ts';
import { presentJob } from './present.ts';
import { findBuild } from './scope.ts';
import { selectJobs } from './select.ts';

export const listJobs: Handler<'listJobs'> = async (deps, caller, { path }) => {
  const build = await findBuild(deps, caller, { ...path, action: 'job.view' });
  const rows = await selectJobs(deps.db).where('jobs.build_id', '=', build.id).orderBy('jobs.position').execute();
  return { data: rows.map(presentJob) };
};
