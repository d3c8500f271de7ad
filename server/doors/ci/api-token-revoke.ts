import { isUuid } from './is-uuid.ts';
import type { Handler } from './operation.ts';
import { notFound } from './scope.ts';
import { signedIn } from './signed-in.ts';

export const revokeApiToken: Handler<'revokeApiToken'> = async ({ db }, caller, { path }) => {
  const { userId } = signedIn(caller, 'token.revoke');
  if (!isUuid(path.id)) throw notFound('api_token_not_found');
  const { numDeletedRows } = await db
    .deleteFrom('tokens')
    .where('id', '=', path.id)
    .where('user_id', '=', userId)
    .where('kind', '=', 'personal')
    .executeTakeFirst();
  if (numDeletedRows === 0n) throw notFound('api_token_not_found');
  return undefined;
};
