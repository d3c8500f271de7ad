import type { Handler } from './operation.ts';
import { presentApiToken } from './present.ts';
import { selectApiTokens } from './select.ts';
import { signedIn } from './signed-in.ts';

export const listApiTokens: Handler<'listApiTokens'> = async ({ db }, caller) => {
  const { userId } = signedIn(caller, 'token.list');
  const rows = await selectApiTokens(db)
    .where('user_id', '=', userId)
    .orderBy('tokens.created_at', 'desc')
    .orderBy('id', 'desc')
    .execute();
  return { api_tokens: rows.map(presentApiToken) };
};
