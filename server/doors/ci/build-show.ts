import type { Handler } from './operation.ts';
import { presentBuild } from './present.ts';
import { findBuild } from './scope.ts';

export const getBuild: Handler<'getBuild'> = async (deps, caller, { path }) =>
  presentBuild(await findBuild(deps, caller, { ...path, action: 'build.view' }));
