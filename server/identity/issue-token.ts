import { v7 as uuidv7 } from 'uuid';
import type { Database, Tx } from '../store/database.ts';
import { hashToken, newToken } from './token.ts';

const sessionDays = 30;

interface PersonalTokenInput {
  readonly userId: string;
  readonly description: string | null;
  /** ISO 8601; null never ends. */
  readonly expiresAt: string | null;
}

/** Makes a personal token. `token` is the only copy of the secret. */
export async function issuePersonalToken(db: Database | Tx, input: PersonalTokenInput): Promise<IssuedToken> {
  const token = newToken('personal');
  const id = await storePersonalToken(db, token, input);
  return { id, token };
}

interface IssuedToken {
  readonly id: string;
  readonly token: string;
}

/** Stores a personal token whose text was chosen elsewhere (the bootstrap token). */
export async function storePersonalToken(db: Database | Tx, token: string, input: PersonalTokenInput): Promise<string> {
  const id = uuidv7();
  await db
    .insertInto('tokens')
    .values({
      id,
      user_id: input.userId,
      kind: 'personal',
      hash: hashToken(token),
      description: input.description,
      expires_at: input.expiresAt,
    })
    .execute();
  return id;
}

/** Signs a user in: a session of 30 days that use does not prolong. */
export async function issueSession(db: Database | Tx, userId: string, nowMs: number): Promise<IssuedToken> {
  const token = newToken('session');
  const id = uuidv7();
  const expires_at = new Date(nowMs + sessionDays * 24 * 3_600_000);
  await db
    .insertInto('tokens')
    .values({ id, user_id: userId, kind: 'session', hash: hashToken(token), description: null, expires_at })
    .execute();
  return { id, token };
}
