import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { v7 as uuidv7 } from 'uuid';
import type { Database, Tx } from '../store/database.ts';
import { issuePersonalToken, storePersonalToken } from './issue-token.ts';
import { hashToken } from './token.ts';

interface BootstrapInput {
  /** Address of the first user, trimmed and in lower case. */
  readonly email: string;
  /** A personal token the first user shall have (`hm_` and 43 characters); null makes one at the first start. */
  readonly token: string | null;
}

interface Bootstrapped {
  readonly userId: string;
  readonly organizationId: string;
  /** A token made just now, to be shown once; null when one was given or this is a later start. */
  readonly freshToken: string | null;
}

const localSlug = 'local';
const lockKey = 7_226_102;

/**
 * Gives a new installation its secrets and its first user, owner of the organization `local`. Later starts change nothing, except
 * that a bootstrap token not yet known is added to that user. Safe when several processes start at once.
 */
export async function bootstrap(db: Database, input: BootstrapInput): Promise<Bootstrapped> {
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${lockKey})`.execute(tx);
    await ensureSecrets(tx);
    const organizationId = await ensureOrganization(tx);
    const owner = await firstOwner(tx, organizationId);
    const userId = owner ?? (await addOwner(tx, organizationId, input.email));
    const freshToken = await ensureToken(tx, { userId, token: input.token, isNew: owner === null });
    return { userId, organizationId, freshToken };
  });
}

async function ensureSecrets(tx: Tx): Promise<void> {
  const secret = () => randomBytes(32).toString('hex');
  await tx
    .insertInto('installation')
    .values({ log_token_secret: secret(), runner_token_secret: secret() })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

async function ensureOrganization(tx: Tx): Promise<string> {
  const known = await tx.selectFrom('organizations').select('id').where('slug', '=', localSlug).executeTakeFirst();
  if (known) return known.id;
  const id = uuidv7();
  await tx.insertInto('organizations').values({ id, slug: localSlug, name: 'Local', url: null }).execute();
  return id;
}

async function firstOwner(tx: Tx, organizationId: string): Promise<string | null> {
  const row = await tx
    .selectFrom('members')
    .select('user_id')
    .where('organization_id', '=', organizationId)
    .where('role', '=', 'owner')
    .orderBy('created_at')
    .orderBy('user_id')
    .executeTakeFirst();
  return row?.user_id ?? null;
}

async function addOwner(tx: Tx, organizationId: string, email: string): Promise<string> {
  const known = await tx.selectFrom('users').select('id').where('email', '=', email).executeTakeFirst();
  const userId = known?.id ?? uuidv7();
  if (!known) await tx.insertInto('users').values({ id: userId, email, name: null }).execute();
  await tx
    .insertInto('members')
    .values({ organization_id: organizationId, user_id: userId, role: 'owner' })
    .onConflict((conflict) => conflict.columns(['organization_id', 'user_id']).doUpdateSet({ role: 'owner' }))
    .execute();
  return userId;
}

async function ensureToken(
  tx: Tx,
  input: { userId: string; token: string | null; isNew: boolean },
): Promise<string | null> {
  const { userId, token, isNew } = input;
  const personal = { userId, description: 'bootstrap', expiresAt: null };
  if (token === null) return isNew ? (await issuePersonalToken(tx, personal)).token : null;
  const known = await tx.selectFrom('tokens').select('id').where('hash', '=', hashToken(token)).executeTakeFirst();
  if (!known) await storePersonalToken(tx, token, personal);
  return null;
}
