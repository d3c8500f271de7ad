import { AppError } from '@caisson/contracts/app-error';
import { issuePersonalToken } from '../../identity/issue-token.ts';
import type { Handler } from './operation.ts';
import { presentApiToken } from './present.ts';
import { selectApiTokens } from './select.ts';
import { signedIn } from './signed-in.ts';

export const createApiToken: Handler<'createApiToken'> = async ({ db, nowMs }, caller, { body }) => {
  const { userId } = signedIn(caller, 'token.create');
  const expiresAt = readExpiry(body.expires_at ?? null, nowMs());
  const { id, token } = await issuePersonalToken(db, { userId, description: body.description, expiresAt });
  const row = await selectApiTokens(db).where('id', '=', id).executeTakeFirstOrThrow();
  return { token, api_token: presentApiToken(row) };
};

/** A token that is over at once, or at no real moment, is a mistake of the caller. */
function readExpiry(text: string | null, nowMs: number): string | null {
  if (text === null) return null;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw new AppError('invalid_request', 'expires_at is not a moment that exists');
  if (ms <= nowMs) throw new AppError('invalid_request', 'expires_at is in the past');
  return new Date(ms).toISOString();
}
