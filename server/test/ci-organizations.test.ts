import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CiRig, ciRig } from './ci-rig.ts';

let rig: CiRig;
beforeAll(async () => {
  rig = await ciRig();
});
afterAll(() => rig.close());

describe('organizations', () => {
  test('are made with the caller as owner, and taken slugs get a number', async () => {
    const json = { name: ' Acme, Inc. ', url: 'https://acme.test' };
    const slugs = [];
    for (let round = 0; round < 3; round++) {
      const made = await rig.call('POST', '/api/v0/organizations', { json });
      expect(made.status).toBe(201);
      expect(made.json).toEqual({
        slug: expect.any(String),
        name: 'Acme, Inc.',
        url: 'https://acme.test',
        created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
      });
      slugs.push(made.json.slug);
    }
    expect(slugs).toEqual(['acme-inc', 'acme-inc-2', 'acme-inc-3']);
    expect((await rig.call('GET', '/api/v0/organizations/acme-inc-2')).json.url).toBe('https://acme.test');
  });

  test('many at once with one name all get a slug of their own', async () => {
    const made = await Promise.all(
      Array.from({ length: 6 }, () => rig.call('POST', '/api/v0/organizations', { json: { name: 'rush' } })),
    );
    expect(made.map(({ status }) => status)).toEqual(Array(6).fill(201));
    expect(new Set(made.map(({ json }) => json.slug)).size).toBe(6);
  });

  test('a name without letters or digits, or none, is refused', async () => {
    for (const json of [{}, { name: '' }, { name: '  ' }, { name: '!!!' }, { name: 5 }, { name: 'a', url: 5 }, [], 7]) {
      const { status, json: answer } = await rig.call('POST', '/api/v0/organizations', { json });
      expect([status, answer.error.code]).toEqual([422, 'organization_invalid']);
    }
  });

  test('are shown to members only', async () => {
    const { token } = await rig.stranger();
    for (const [slug, by] of [
      ['local', token],
      ['nowhere', rig.token],
      ['constructor', rig.token],
    ] as const) {
      const { status, json } = await rig.call('GET', `/api/v0/organizations/${slug}`, { token: by });
      expect([status, json.error.code]).toEqual([404, 'organization_not_found']);
    }
    expect((await rig.call('GET', '/api/v0/organizations/local', { token: null })).status).toBe(401);
    expect((await rig.call('GET', '/api/v0/organizations/local')).json.name).toBe('Local');
  });

  test('a list holds just the own ones', async () => {
    const { token } = await rig.stranger();
    expect((await rig.call('GET', '/api/v0/organizations', { token })).json).toEqual({ data: [], next_cursor: null });
    const { json } = await rig.call('GET', '/api/v0/organizations');
    expect(json.data[0].slug).toBe('local');
  });
});

describe('pages', () => {
  test('a walk under inserts meets every entry that was there once, in order', async () => {
    const { token } = await rig.stranger();
    const make = (name: string) => rig.call('POST', '/api/v0/organizations', { token, json: { name } });
    for (let index = 0; index < 7; index++) await make(`walk ${index}`);
    const seen: string[] = [];
    let cursor: string | null = null;
    let pages = 0;
    do {
      const query: string = cursor ? `?limit=2&cursor=${cursor}` : '?limit=2';
      const { json } = await rig.call('GET', `/api/v0/organizations${query}`, { token });
      expect(json.data.length).toBeLessThanOrEqual(2);
      seen.push(...json.data.map((entry: { name: string }) => entry.name));
      cursor = json.next_cursor;
      pages += 1;
      if (pages <= 2) await make(`late ${pages}`);
    } while (cursor);
    expect(seen).toEqual([...Array.from({ length: 7 }, (_, index) => `walk ${index}`), 'late 1', 'late 2']);
  });

  test('entries of one microsecond are neither lost nor repeated', async () => {
    const { userId, token } = await rig.stranger();
    for (let index = 0; index < 5; index++) {
      const { json } = await rig.call('POST', '/api/v0/organizations', { token, json: { name: `same ${index}` } });
      await rig.db
        .updateTable('organizations')
        .set({ created_at: '2026-01-02T03:04:05.678901Z' })
        .where('slug', '=', json.slug)
        .execute();
    }
    expect(userId).toBeTruthy();
    const seen = new Set<string>();
    let cursor: string | null = '';
    while (cursor !== null) {
      const page = await rig.call('GET', `/api/v0/organizations?limit=1&cursor=${cursor}`, { token });
      expect(page.json.data[0].created_at).toBe('2026-01-02T03:04:05.678901Z');
      seen.add(page.json.data[0].slug);
      cursor = page.json.next_cursor;
    }
    expect(seen.size).toBe(5);
  });

  test('limits are clamped and nonsense counts as absent', async () => {
    const { token } = await rig.stranger();
    for (let index = 0; index < 3; index++)
      await rig.call('POST', '/api/v0/organizations', { token, json: { name: 'n' } });
    const lengthAt = async (limit: string) =>
      (await rig.call('GET', `/api/v0/organizations?limit=${limit}`, { token })).json.data.length;
    expect(await lengthAt('0')).toBe(1);
    expect(await lengthAt('-5')).toBe(1);
    expect(await lengthAt('2')).toBe(2);
    expect(await lengthAt('99999999999999999999')).toBe(3);
    expect(await lengthAt('many')).toBe(3);
  });

  test('a cursor from elsewhere is refused', async () => {
    const cursorOf = (text: string) => Buffer.from(text).toString('base64url');
    const id = '11111111-1111-1111-1111-111111111111';
    const bad = [
      'x',
      '%00',
      cursorOf('nothing'),
      cursorOf(`2026-02-30T00:00:00.000000Z\0${id}`),
      cursorOf(`0000-01-01T00:00:00.000000Z\0${id}`),
      cursorOf(`2026-01-01T00:00:00.000000Z\0nope`),
      cursorOf(`2026-01-01T24:00:00.000000Z\0${id}`),
      'a'.repeat(5000),
    ];
    for (const cursor of bad) {
      const { status } = await rig.call('GET', `/api/v0/organizations?cursor=${cursor}`);
      expect([cursor, status]).toEqual([cursor, 400]);
    }
    const twice = await rig.call('GET', '/api/v0/organizations?cursor=a&cursor=b');
    expect(twice.status).toBe(400);
    const good = cursorOf(`2026-01-02T03:04:05.678901Z\0${id}`);
    expect(good).toBe('MjAyNi0wMS0wMlQwMzowNDowNS42Nzg5MDFaADExMTExMTExLTExMTEtMTExMS0xMTExLTExMTExMTExMTExMQ');
    expect((await rig.call('GET', `/api/v0/organizations?cursor=${good}`)).status).toBe(200);
  });
});
