import type { Handler } from './operation.ts';
import { signedIn } from './signed-in.ts';

/** Ends the token the request came with, be it a session or a personal one. */
export const logout: Handler<'logout'> = async ({ db }, caller) => {
  const { tokenId } = signedIn(caller, 'session.end');
  await db.deleteFrom('tokens').where('id', '=', tokenId).execute();
  return undefined;
};
