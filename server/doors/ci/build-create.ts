import type { Handler } from './operation.ts';
import { presentBuild } from './present.ts';
import { findPipeline } from './scope.ts';
import { startBuild } from './start-build.ts';

export const createBuild: Handler<'createBuild'> = async (deps, caller, { path, body }) => {
  const scope = await findPipeline(deps, caller, { ...path, action: 'build.create' });
  const renderSlug = body.source_slug ?? null;
  return presentBuild(await startBuild(deps, caller, { ...scope, body, renderSlug }));
};
