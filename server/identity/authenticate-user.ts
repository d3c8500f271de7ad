import type { Caller, Role } from '@caisson/core/authorize';
import type { Database } from '../store/database.ts';
import { authenticate } from './authenticate.ts';

/** A user with the token they came with. */
type UserCaller = Extract<Caller, { kind: 'session' | 'token' }> & { readonly tokenId: string };

/** The user behind an `authorization` header, with their roles as they are now. Rejects with `unauthorized`. */
export async function authenticateUser(db: Database, header: string | undefined): Promise<UserCaller> {
  const { userId, tokenId, tokenKind } = await authenticate(db, header);
  const rows = await db
    .selectFrom('members')
    .select(['organization_id', 'role'])
    .where('user_id', '=', userId)
    .execute();
  const memberships = new Map<string, Role>(rows.map((row) => [row.organization_id, row.role]));
  return { kind: tokenKind === 'session' ? 'session' : 'token', userId, tokenId, memberships };
}
