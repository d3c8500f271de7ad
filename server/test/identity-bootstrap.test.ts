import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { authenticate } from '../identity/authenticate.ts';
import { authenticateUser } from '../identity/authenticate-user.ts';
import { bootstrap } from '../identity/bootstrap.ts';
import { readInstallationSecrets } from '../identity/installation-secrets.ts';
import { issuePersonalToken, issueSession } from '../identity/issue-token.ts';
import { hashToken, newToken } from '../identity/token.ts';
import { type OpenDatabase, openDatabase } from '../store/database.ts';
import { freshDatabase, type TestDatabase } from './database.ts';

let database: TestDatabase;
let open: OpenDatabase;
const email = 'first@example.test';

beforeAll(async () => {
  database = await freshDatabase();
  open = openDatabase(database.connectionString);
});
afterAll(async () => {
  await open.close();
  await database.drop();
});
beforeEach(async () => {
  await open.db.deleteFrom('organizations').execute();
  await open.db.deleteFrom('users').execute();
  await open.db.deleteFrom('installation').execute();
});

test('the first start makes the first user, owner of local, with a fresh token and secrets', async () => {
  const first = await bootstrap(open.db, { email, token: null });
  expect(first.freshToken).toMatch(/^hm_[A-Za-z0-9_-]{43}$/);
  const caller = await authenticateUser(open.db, `Bearer ${first.freshToken}`);
  expect(caller.userId).toBe(first.userId);
  expect(caller.memberships).toEqual(new Map([[first.organizationId, 'owner']]));
  const { logTokenSecret, runnerTokenSecret } = await readInstallationSecrets(open.db);
  expect(logTokenSecret).toMatch(/^[0-9a-f]{64}$/);
  expect(logTokenSecret).not.toBe(runnerTokenSecret);
});

test('later starts change nothing and show no token', async () => {
  const first = await bootstrap(open.db, { email, token: null });
  const secrets = await readInstallationSecrets(open.db);
  const later = await bootstrap(open.db, { email: 'other@example.test', token: null });
  expect(later).toEqual({ ...first, freshToken: null });
  expect(await readInstallationSecrets(open.db)).toEqual(secrets);
  expect(await open.db.selectFrom('users').select('email').execute()).toEqual([{ email }]);
});

test('a given token works, and a changed one is added to it', async () => {
  const [one, two] = [newToken('personal'), newToken('personal')];
  const first = await bootstrap(open.db, { email, token: one });
  expect(first.freshToken).toBeNull();
  await bootstrap(open.db, { email, token: two });
  await bootstrap(open.db, { email, token: two });
  for (const token of [one, two]) {
    expect((await authenticate(open.db, `Bearer ${token}`)).userId).toBe(first.userId);
  }
  expect(await open.db.selectFrom('tokens').select('id').execute()).toHaveLength(2);
});

test('many processes starting at once agree', async () => {
  const all = await Promise.all(Array.from({ length: 8 }, () => bootstrap(open.db, { email, token: null })));
  expect(new Set(all.map(({ userId }) => userId)).size).toBe(1);
  expect(all.filter(({ freshToken }) => freshToken !== null)).toHaveLength(1);
});

test('only the exact scheme and a whole token are accepted', async () => {
  const { freshToken: token } = await bootstrap(open.db, { email, token: null });
  const bad = [
    undefined,
    '',
    token,
    `bearer ${token}`,
    `Bearer  ${token}`,
    `Bearer ${token} `,
    `Bearer ${token?.slice(3)}`,
  ];
  for (const header of [...bad, 'Bearer ', 'Basic x', `Bearer ${newToken('personal')}`]) {
    await expect(authenticate(open.db, header ?? undefined)).rejects.toMatchObject({ code: 'unauthorized' });
  }
});

test('an expired token is refused and a session lasts thirty days', async () => {
  const { userId } = await bootstrap(open.db, { email, token: null });
  const over = await issuePersonalToken(open.db, { userId, description: null, expiresAt: '2020-01-01T00:00:00Z' });
  await expect(authenticate(open.db, `Bearer ${over.token}`)).rejects.toMatchObject({ code: 'unauthorized' });
  const nowMs = Date.now();
  const session = await issueSession(open.db, userId, nowMs);
  expect((await authenticate(open.db, `Bearer ${session.token}`)).tokenKind).toBe('session');
  const row = await open.db.selectFrom('tokens').selectAll().where('id', '=', session.id).executeTakeFirstOrThrow();
  expect(row.expires_at?.getTime()).toBe(nowMs + 30 * 24 * 3_600_000);
  expect(row.hash).toBe(hashToken(session.token));
});

test('the last use is noted at most once a minute', async () => {
  const { userId } = await bootstrap(open.db, { email, token: null });
  const { id, token } = await issuePersonalToken(open.db, { userId, description: null, expiresAt: null });
  const use = async () => {
    await authenticate(open.db, `Bearer ${token}`);
    const row = await open.db.selectFrom('tokens').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    return row.last_used_at?.getTime() ?? null;
  };
  const first = await use();
  expect(first).not.toBeNull();
  expect(await use()).toBe(first);
  const longAgo = new Date(Date.now() - 61_000);
  await open.db.updateTable('tokens').set({ last_used_at: longAgo }).where('id', '=', id).execute();
  expect(await use()).toBeGreaterThan(longAgo.getTime());
});
