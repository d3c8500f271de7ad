import { AppError } from '@caisson/contracts/app-error';
import { slugOf } from '@caisson/contracts/ci/slugs';
import { v7 as uuidv7 } from 'uuid';
import type { Database, Tx } from '../../store/database.ts';
import type { Handler } from './operation.ts';
import { presentOrganization } from './present.ts';
import { selectOrganizations } from './select.ts';
import { signedIn } from './signed-in.ts';

export const createOrganization: Handler<'createOrganization'> = async ({ db }, caller, { body }) => {
  const { userId } = signedIn(caller, 'organization.create');
  const name = body.name.trim();
  const base = slugOf(name);
  if (base === '') throw new AppError('organization_invalid', 'name needs at least one letter from a to z or a digit');
  const id = await insertOwned(db, { base, name, url: body.url ?? null, userId });
  return presentOrganization(await selectOrganizations(db).where('id', '=', id).executeTakeFirstOrThrow());
};

interface NewOrganization {
  readonly base: string;
  readonly name: string;
  readonly url: string | null;
  readonly userId: string;
}

async function insertOwned(db: Database, input: NewOrganization): Promise<string> {
  return db.transaction().execute(async (tx) => {
    const id = await insertUnderFreeSlug(tx, input);
    await tx.insertInto('members').values({ organization_id: id, user_id: input.userId, role: 'owner' }).execute();
    return id;
  });
}

/** Tries the slug itself, then `-2`, `-3`…; somebody else may take one in between, so the insert decides. */
async function insertUnderFreeSlug(tx: Tx, { base, name, url }: NewOrganization): Promise<string> {
  for (let suffix = 1; ; suffix++) {
    const slug = suffix === 1 ? base : `${base}-${suffix}`;
    const row = await tx
      .insertInto('organizations')
      .values({ id: uuidv7(), slug, name, url })
      .onConflict((conflict) => conflict.column('slug').doNothing())
      .returning('id')
      .executeTakeFirst();
    if (row) return row.id;
  }
}
