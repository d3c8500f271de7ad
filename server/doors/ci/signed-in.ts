import { AppError } from '@caisson/contracts/app-error';
import { type Action, authorize } from '@caisson/core/authorize';
import type { CiCaller } from './operation.ts';

/** The user behind the caller, who may do `action` with the own account; otherwise `unauthorized`. */
export function signedIn(caller: CiCaller, action: Action): { userId: string; tokenId: string } {
  if (authorize(caller, action, { kind: 'account' }) === 'allowed' && 'userId' in caller && caller.tokenId) {
    return { userId: caller.userId, tokenId: caller.tokenId };
  }
  throw new AppError('unauthorized', 'this needs the token of a user');
}
