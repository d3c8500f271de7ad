import type { Handler } from './operation.ts';
import { readPage } from './page.ts';
import { presentOrganization } from './present.ts';
import { selectOrganizations } from './select.ts';
import { signedIn } from './signed-in.ts';

export const listOrganizations: Handler<'listOrganizations'> = async ({ db }, caller, { query }) => {
  const { userId } = signedIn(caller, 'organization.list');
  const mine = selectOrganizations(db)
    .innerJoin('members', 'members.organization_id', 'organizations.id')
    .where('members.user_id', '=', userId);
  const page = await readPage(mine, { table: 'organizations', direction: 'asc', query });
  return { data: page.rows.map(presentOrganization), next_cursor: page.nextCursor };
};
