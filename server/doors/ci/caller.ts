import { AppError } from '@caisson/contracts/app-error';
import { bearerOf } from '../../identity/authenticate.ts';
import { authenticateUser } from '../../identity/authenticate-user.ts';
import { verifyBuildToken } from '../../identity/build-token.ts';
import type { CiCaller, CiDeps } from './operation.ts';

/** How an operation wants its caller to prove who they are. */
export type Security = 'none' | 'bearer' | 'runnerToken';

/** Who sent a request with this `authorization` header; rejects with `unauthorized` when the operation needs more. */
export async function callerOf(deps: CiDeps, security: Security, header: string | undefined): Promise<CiCaller> {
  switch (security) {
    case 'none':
      return { kind: 'anonymous' };
    case 'bearer':
      return authenticateUser(deps.db, header);
    case 'runnerToken': {
      const buildId = verifyBuildToken(deps.secrets.runnerTokenSecret, bearerOf(header) ?? '', deps.nowMs());
      if (!buildId) throw new AppError('unauthorized', 'send a valid runner token as "Authorization: Bearer <token>"');
      return { kind: 'run', leaseId: null, buildId };
    }
  }
}
