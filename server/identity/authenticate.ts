import { AppError } from '@caisson/contracts/app-error';
import { sql } from 'kysely';
import type { Database } from '../store/database.ts';
import { hashToken, isTokenShaped } from './token.ts';

/** Who holds a token that is valid now. */
interface SignedIn {
  readonly userId: string;
  readonly tokenId: string;
  readonly tokenKind: 'session' | 'personal';
}

/**
 * Resolves an `authorization` header. Rejects with `unauthorized` for anything but `Bearer ` and a token that exists and is not
 * over. The lookup is by hash, so how long it takes tells nothing about a token.
 */
export async function authenticate(db: Database, header: string | undefined): Promise<SignedIn> {
  const token = bearerOf(header);
  if (token === null || !isTokenShaped(token)) throw unauthorized();
  const row = await db
    .selectFrom('tokens')
    .select(['id', 'user_id', 'kind'])
    .select(sql<boolean>`last_used_at is null or last_used_at < now() - interval '60 seconds'`.as('touch_due'))
    .where('hash', '=', hashToken(token))
    .where((eb) => eb.or([eb('expires_at', 'is', null), eb('expires_at', '>', sql<Date>`now()`)]))
    .executeTakeFirst();
  if (!row) throw unauthorized();
  if (row.touch_due) await touch(db, row.id);
  return { userId: row.user_id, tokenId: row.id, tokenKind: row.kind };
}

/** The text after `Bearer `, which is matched exactly; null for any other header. */
export function bearerOf(header: string | undefined): string | null {
  const prefix = 'Bearer ';
  return header?.startsWith(prefix) ? header.slice(prefix.length) : null;
}

function unauthorized(): AppError {
  return new AppError('unauthorized', 'send a valid token as "Authorization: Bearer <token>"');
}

async function touch(db: Database, tokenId: string): Promise<void> {
  await db.updateTable('tokens').set({ last_used_at: sql<Date>`now()` }).where('id', '=', tokenId).execute();
}
