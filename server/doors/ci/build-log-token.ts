import { signBuildToken } from '../../identity/build-token.ts';
import { isoTimeOf } from './iso-time.ts';
import type { Handler } from './operation.ts';
import { findBuild } from './scope.ts';

const logTokenS = 3600;

export const getBuildLogToken: Handler<'getBuildLogToken'> = async (deps, caller, { path }) => {
  const build = await findBuild(deps, caller, { ...path, action: 'log.view' });
  const expiresAtS = Math.floor(deps.nowMs() / 1000) + logTokenS;
  const token = signBuildToken(deps.secrets.logTokenSecret, { buildId: build.id, expiresAtS });
  return { token, expires_at: isoTimeOf(expiresAtS * 1000) };
};
