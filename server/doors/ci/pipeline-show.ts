import type { Handler } from './operation.ts';
import { presentPipeline } from './present.ts';
import { findPipeline } from './scope.ts';

export const getPipeline: Handler<'getPipeline'> = async (deps, caller, { path }) => {
  const { pipeline } = await findPipeline(deps, caller, { ...path, action: 'pipeline.view' });
  return presentPipeline(pipeline);
};
