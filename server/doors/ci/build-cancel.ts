import type { Handler } from './operation.ts';
import { presentBuild } from './present.ts';
import { findBuild } from './scope.ts';
import { selectBuilds } from './select.ts';

export const cancelBuild: Handler<'cancelBuild'> = async (deps, caller, { path }) => {
  const build = await findBuild(deps, caller, { ...path, action: 'build.cancel' });
  await deps.engine.cancelBuild(build.id);
  return presentBuild(await selectBuilds(deps.db).where('builds.id', '=', build.id).executeTakeFirstOrThrow());
};
