import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CiRig, ciRig } from './ci-rig.ts';
import { ir } from './ir.ts';

let rig: CiRig;
beforeAll(async () => {
  rig = await ciRig();
});
afterAll(() => rig.close());

const pipelines = '/api/v0/organizations/local/pipelines';
const valid = { name: 'My App!', repository: 'git@github.com:acme/app.git', default_branch: 'main' };

describe('pipelines', () => {
  test('are made with a slug and the repository name read from the clone URL', async () => {
    const { status, json } = await rig.call('POST', pipelines, { json: valid });
    expect(status).toBe(201);
    expect(json).toEqual({
      slug: 'my-app',
      name: 'My App!',
      repository: 'git@github.com:acme/app.git',
      default_branch: 'main',
      visibility: 'private',
      allow_manual: true,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
      repo_name: 'acme/app',
      description: null,
    });
    expect((await rig.call('GET', `${pipelines}/my-app`)).json).toEqual(json);
  });

  test('a taken slug is refused in the same organization only', async () => {
    const taken = await rig.call('POST', pipelines, { json: { ...valid, name: 'my APP' } });
    expect([taken.status, taken.json.error.code]).toEqual([422, 'pipeline_slug_taken']);
    const other = await rig.call('POST', '/api/v0/organizations', { json: { name: 'other' } });
    const path = `/api/v0/organizations/${other.json.slug}/pipelines`;
    expect((await rig.call('POST', path, { json: valid })).status).toBe(201);
  });

  test('what the schema or the slug does not allow is refused', async () => {
    const bad = [
      {},
      { ...valid, name: '' },
      { ...valid, name: '!!!' },
      { ...valid, name: undefined },
      { ...valid, repository: 7 },
      { ...valid, default_branch: null },
      { ...valid, description: [] },
      'text',
    ];
    for (const json of bad) {
      const { status, json: answer } = await rig.call('POST', pipelines, { json });
      expect([status, answer.error.code]).toEqual([422, 'pipeline_invalid']);
    }
  });

  test('are hidden from strangers and from the signed out', async () => {
    const { token } = await rig.stranger();
    for (const [method, path] of [
      ['GET', pipelines],
      ['POST', pipelines],
      ['GET', `${pipelines}/my-app`],
    ] as const) {
      const json = method === 'POST' ? { json: valid } : {};
      const hidden = await rig.call(method, path, { token, ...json });
      expect([hidden.status, hidden.json.error.code]).toEqual([404, 'organization_not_found']);
      expect((await rig.call(method, path, { token: null, ...json })).status).toBe(401);
    }
    const missing = await rig.call('GET', `${pipelines}/nothing`);
    expect([missing.status, missing.json.error.code]).toEqual([404, 'pipeline_not_found']);
  });

  test('a name inside the source may be given and is the slug otherwise', async () => {
    const build = { branch: 'main', commit: 'c', pipeline_ir: ir({ a: ['true'] }), repo_name: 'acme/app' };
    const start = async (source_slug: string) =>
      rig.call('POST', '/api/v0/organizations/local/builds', { json: { ...build, source_slug } });
    await rig.call('POST', pipelines, { json: { ...valid, name: 'release', source_slug: 'ship it' } });
    expect((await start('ship it')).json.pipeline_slug).toBe('release');
    expect((await start('my-app')).json.pipeline_slug).toBe('my-app');
    expect((await start('release')).json.error.code).toBe('pipeline_not_found');
    await rig.db.deleteFrom('pipelines').where('slug', '=', 'release').execute();
  });

  test('an archived one is not listed but can be seen', async () => {
    await rig.call('POST', pipelines, { json: { ...valid, name: 'old' } });
    await rig.db.updateTable('pipelines').set({ archived_at: new Date() }).where('slug', '=', 'old').execute();
    const { json } = await rig.call('GET', pipelines);
    expect(json.data.map(({ slug }: { slug: string }) => slug)).toEqual(['my-app']);
    expect((await rig.call('GET', `${pipelines}/old`)).status).toBe(200);
  });
});
