import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { issueSession } from '../identity/issue-token.ts';
import { type CiRig, ciRig } from './ci-rig.ts';

let rig: CiRig;
beforeAll(async () => {
  rig = await ciRig();
});
afterAll(() => rig.close());

const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

describe('the current user', () => {
  test('is shown with the slug of the own organization', async () => {
    const { status, json } = await rig.call('GET', '/api/v0/user');
    expect(status).toBe(200);
    expect(json).toEqual({
      uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      email: 'first@example.test',
      name: null,
      personal_org_slug: 'local',
    });
    const { token } = await rig.stranger();
    expect((await rig.call('GET', '/api/v0/user', { token })).json.personal_org_slug).toBeNull();
  });

  test('may change the name, which is trimmed', async () => {
    const { status, json } = await rig.call('PATCH', '/api/v0/user', { json: { name: '  Ada  ' } });
    expect([status, json.name]).toEqual([200, 'Ada']);
    for (const name of ['', '   ', 'x'.repeat(256), 7, null, undefined]) {
      const refused = await rig.call('PATCH', '/api/v0/user', { json: { name } });
      expect([refused.status, refused.json.error.code]).toEqual([422, 'user_name_invalid']);
    }
  });

  test('text that cannot be stored is refused', async () => {
    for (const name of ['a\u0000b', 'a\ud800b']) {
      const { status, json } = await rig.call('PATCH', '/api/v0/user', { json: { name } });
      expect([status, json.error.code]).toEqual([400, 'invalid_request']);
    }
  });
});

describe('personal tokens', () => {
  test('are made, listed newest first without secrets, used and revoked', async () => {
    const one = await rig.call('POST', '/api/v0/user/api-tokens', { json: { description: 'one' } });
    expect(one.status).toBe(201);
    expect(one.json.token).toMatch(/^hm_[A-Za-z0-9_-]{43}$/);
    expect(one.json.api_token).toEqual({
      id: expect.any(String),
      description: 'one',
      created_at: expect.stringMatching(moment),
      expires_at: null,
      last_used_at: null,
    });
    const expires_at = '2099-01-02T03:04:05+02:00';
    const two = await rig.call('POST', '/api/v0/user/api-tokens', { json: { description: 'two', expires_at } });
    expect(two.json.api_token.expires_at).toBe('2099-01-02T01:04:05.000000Z');

    expect((await rig.call('GET', '/api/v0/user', { token: one.json.token })).status).toBe(200);
    const { json } = await rig.call('GET', '/api/v0/user/api-tokens');
    const descriptions = json.api_tokens.map((token: { description: string }) => token.description);
    expect(descriptions).toEqual(['two', 'one', 'bootstrap']);
    expect(json.api_tokens[1].last_used_at).toMatch(moment);
    expect(JSON.stringify(json)).not.toContain(one.json.token);

    const gone = await rig.call('DELETE', `/api/v0/user/api-tokens/${one.json.api_token.id}`);
    expect([gone.status, gone.text]).toEqual([204, '']);
    expect((await rig.call('GET', '/api/v0/user', { token: one.json.token })).status).toBe(401);
  });

  test('an expiry that is past or no moment is refused', async () => {
    for (const expires_at of ['2020-01-01T00:00:00Z', '0000-01-01T00:00:00Z', 'tomorrow', '2099-13-01T00:00:00Z', 7]) {
      const { status, json } = await rig.call('POST', '/api/v0/user/api-tokens', {
        json: { description: 'x', expires_at },
      });
      expect([expires_at, status, json.error.code]).toEqual([expires_at, 400, 'invalid_request']);
    }
  });

  test('those of others, sessions and malformed ids cannot be revoked', async () => {
    const other = await rig.stranger();
    const { json } = await rig.call('GET', '/api/v0/user/api-tokens');
    const mine = json.api_tokens[0].id;
    const session = await issueSession(rig.db, (await rig.call('GET', '/api/v0/user')).json.uuid, Date.now());
    const attempts: [string, string][] = [
      [other.token, mine],
      [rig.token, session.id],
      [rig.token, 'nope'],
      [rig.token, '00000000-0000-0000-0000-000000000000'],
    ];
    for (const [token, id] of attempts) {
      const refused = await rig.call('DELETE', `/api/v0/user/api-tokens/${id}`, { token });
      expect([refused.status, refused.json.error.code]).toEqual([404, 'api_token_not_found']);
    }
  });
});

describe('signing out', () => {
  test('ends the very token it was asked with', async () => {
    const { userId, token } = await rig.stranger();
    const session = await issueSession(rig.db, userId, Date.now());
    expect((await rig.call('POST', '/api/v0/auth/logout', { token: session.token })).status).toBe(204);
    expect((await rig.call('GET', '/api/v0/user', { token: session.token })).status).toBe(401);
    expect((await rig.call('GET', '/api/v0/user', { token })).status).toBe(200);
    expect((await rig.call('POST', '/api/v0/auth/logout', { token })).status).toBe(204);
    expect((await rig.call('GET', '/api/v0/user', { token })).status).toBe(401);
  });
});

describe('guessing', () => {
  test('is slowed down, while a token that holds still works', async () => {
    const attempts = await Promise.all(
      Array.from({ length: 40 }, () => rig.call('GET', '/api/v0/user', { token: `hm_${'x'.repeat(43)}` })),
    );
    const limited = attempts.filter(({ status }) => status === 429);
    expect(limited.length).toBeGreaterThan(3);
    expect(limited[0]?.json.error).toMatchObject({ code: 'rate_limited', type: 'rate_limited' });
    expect(Number(limited[0]?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await rig.call('GET', '/api/v0/user')).status).toBe(200);
  });
});
