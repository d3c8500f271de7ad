import type { Handler } from './operation.ts';
import { signedIn } from './signed-in.ts';
import { readCurrentUser } from './user-show.ts';

export const updateCurrentUser: Handler<'updateCurrentUser'> = async ({ db }, caller, { body }) => {
  const { userId } = signedIn(caller, 'user.update');
  await db.updateTable('users').set({ name: body.name.trim() }).where('id', '=', userId).execute();
  return readCurrentUser(db, userId);
};
