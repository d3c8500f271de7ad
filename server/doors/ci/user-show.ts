import type { Database } from '../../store/database.ts';
import type { Handler, Output } from './operation.ts';
import { signedIn } from './signed-in.ts';

export const getCurrentUser: Handler<'getCurrentUser'> = async ({ db }, caller) => {
  const { userId } = signedIn(caller, 'user.view');
  return readCurrentUser(db, userId);
};

/** The user with the slug of the organization they own longest, which is the one made for them. */
export async function readCurrentUser(db: Database, userId: string): Promise<Output<'getCurrentUser'>> {
  const user = await db
    .selectFrom('users')
    .select(['id', 'email', 'name'])
    .where('id', '=', userId)
    .executeTakeFirstOrThrow();
  const personal = await db
    .selectFrom('members')
    .innerJoin('organizations', 'organizations.id', 'members.organization_id')
    .select('organizations.slug')
    .where('members.user_id', '=', userId)
    .where('members.role', '=', 'owner')
    .orderBy('members.created_at')
    .orderBy('organizations.id')
    .executeTakeFirst();
  return { uuid: user.id, email: user.email, name: user.name, personal_org_slug: personal?.slug ?? null };
}
