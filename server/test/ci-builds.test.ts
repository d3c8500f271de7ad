import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { signBuildToken, verifyBuildToken } from '../identity/build-token.ts';
import { type CiRig, ciRig } from './ci-rig.ts';
import { ir } from './ir.ts';
import { exited, scriptedHost } from './scripted-host.ts';

let rig: CiRig;
let slug: string;
beforeAll(async () => {
  rig = await ciRig();
  slug = await rig.pipeline('app');
});
afterAll(() => rig.close());

const builds = () => `/api/v0/organizations/local/pipelines/${slug}/builds`;
const required = { branch: 'main', commit: 'c'.repeat(40) };
const graph = ir({ install: ['npm ci'], test: ['npm test', 'install'], lint: ['npm run lint', 'install'] });
const archive = gzipSync(randomBytes(1000));
const moment = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);

const start = (json: object, options: { token?: string } = {}) => rig.call('POST', builds(), { json, ...options });
const rowOf = (number: number) => rig.row(slug, number);

describe('starting a build', () => {
  test('from a graph answers the build with every field', async () => {
    const { status, json } = await start({ ...required, message: 'go', env: { MODE: 'ci' }, pipeline_ir: graph });
    expect(status).toBe(201);
    expect(json).toEqual({
      number: 1,
      state: 'scheduled',
      pipeline_slug: 'app',
      created_at: moment,
      source: 'api',
      branch: 'main',
      commit: 'c'.repeat(40),
      message: 'go',
      error_code: null,
      error_message: null,
      scheduled_at: moment,
      started_at: null,
      finished_at: null,
    });
    const row = await rowOf(1);
    expect(row.env).toEqual({ MODE: 'ci' });
    expect(row.created_by).toBe((await rig.call('GET', '/api/v0/user')).json.uuid);
    expect((await rig.call('GET', `${builds()}/1`)).json).toEqual(json);
  });

  test('a graph that is refused leaves a failed build and says which', async () => {
    const cyclic = ir({ a: ['x', 'b'], b: ['x', 'a'] });
    for (const [pipeline_ir, code] of [
      ['{', 'invalid_json'],
      [cyclic, 'cycle'],
      ['{"version":"7","steps":[]}', 'bad_version'],
    ] as const) {
      const { status, json } = await start({ ...required, pipeline_ir });
      expect(status).toBe(422);
      expect(json.error).toMatchObject({ code: 'build_plan_rejected', build_error_code: code });
      expect(json.error.message).toContain(code);
      const build = await rig.call('GET', `${builds()}/${json.error.build_number}`);
      expect(build.json).toMatchObject({ state: 'failed', error_code: code, finished_at: moment });
    }
  });

  test('a graph with text that cannot be stored is no failure of the server', async () => {
    for (const cmd of ['\\u0000', '\\ud800']) {
      const { status } = await start({
        ...required,
        pipeline_ir: `{"version":"0","steps":[{"type":"command","key":"a","cmd":"echo ${cmd}"}]}`,
      });
      expect(status).toBe(422);
    }
  });

  test('a closed pipeline is refused whatever the request calls its source', async () => {
    const closed = await rig.pipeline('closed');
    await rig.db.updateTable('pipelines').set({ allow_manual: false }).where('slug', '=', closed).execute();
    for (const source of ['api', 'ui', 'schedule', 'nonsense', undefined]) {
      const { status, json } = await rig.call('POST', `/api/v0/organizations/local/pipelines/${closed}/builds`, {
        json: { ...required, source, pipeline_ir: graph },
      });
      expect([status, json.error.code]).toEqual([403, 'pipeline_manual_disabled']);
    }
  });

  test('bad requests are refused and leave nothing behind', async () => {
    const before = await rig.db.selectFrom('builds').select('id').execute();
    const bad = [
      { ...required },
      { ...required, pipeline_ir: '   ' },
      { ...required, source: 'cron', pipeline_ir: graph },
      { ...required, source_b64: 'not base64!' },
      { ...required, source_b64: 'QQ' },
      { ...required, source_b64: '-_-_' },
      { ...required, source_b64: `${archive.toString('base64')}\n` },
      { ...required, source_digest: 'short' },
      { ...required, source_digest: 'a'.repeat(64) },
      { ...required, source_url: 'http://169.254.169.254/' },
      { ...required, env: { 'A=B': 'x' }, pipeline_ir: graph },
      { ...required, env: { '': 'x' }, pipeline_ir: graph },
      { ...required, env: { A: 1 }, pipeline_ir: graph },
      { ...required, env: [], pipeline_ir: graph },
      { ...required, message: 5, pipeline_ir: graph },
      { ...required, pipeline_ir: { version: '0' } },
      { ...required, stop_on_failure: 'yes', pipeline_ir: graph },
      { branch: 'main', pipeline_ir: graph },
      { ...required, branch: '', pipeline_ir: graph },
      [],
    ];
    for (const json of bad) {
      const { status, json: answer } = await start(json);
      expect([JSON.stringify(json), status, answer.error.code]).toEqual([JSON.stringify(json), 422, 'build_invalid']);
    }
    expect(await rig.db.selectFrom('builds').select('id').execute()).toHaveLength(before.length);
  });

  test('strangers and the signed out learn nothing', async () => {
    const { token } = await rig.stranger();
    for (const path of [builds(), '/api/v0/organizations/local/builds']) {
      const json = { ...required, repo_name: 'acme/app', source_slug: 'app', pipeline_ir: graph };
      const hidden = await rig.call('POST', path, { token, json });
      expect([hidden.status, hidden.json.error.code]).toEqual([404, 'organization_not_found']);
      expect((await rig.call('POST', path, { token: null, json })).status).toBe(401);
    }
    const missing = await rig.call('POST', '/api/v0/organizations/local/pipelines/no/builds', { json: required });
    expect([missing.status, missing.json.error.code]).toEqual([404, 'pipeline_not_found']);
  });

  test('a body over the limit is a 413', async () => {
    const { status, json } = await start({ ...required, source_b64: 'A'.repeat(8_000_000) });
    expect([status, json.error.code]).toEqual([413, 'payload_too_large']);
  });
});

describe('sources', () => {
  const sources = '/api/v0/organizations/local/sources';
  const gzip = { 'content-type': 'application/gzip' };
  const digest = createHash('sha256').update(archive).digest('hex');

  test('one in the request is stored and the build names it', async () => {
    const made = await start({ ...required, source_b64: archive.toString('base64'), pipeline_ir: graph });
    expect(made.status).toBe(201);
    expect((await rowOf(made.json.number)).source_digest).toBe(digest);
    expect(await rig.blobs.has(digest)).toBe(true);
  });

  test('one is uploaded as a stream of any size and named by digest', async () => {
    const chunk = randomBytes(1 << 20);
    const chunks = 24;
    const hash = createHash('sha256').update(Buffer.from([0x1f, 0x8b]));
    for (let index = 0; index < chunks; index++) hash.update(chunk);
    const expected = hash.digest('hex');
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(Buffer.from([0x1f]));
        controller.enqueue(Buffer.from([0x8b]));
        for (let index = 0; index < chunks; index++) controller.enqueue(chunk);
        controller.close();
      },
    });
    const { status, json } = await rig.call('PUT', sources, { body, headers: gzip });
    expect([status, json]).toEqual([201, { digest: expected, size_bytes: chunks * (1 << 20) + 2 }]);
    const made = await start({ ...required, source_digest: expected, pipeline_ir: graph });
    expect([made.status, (await rowOf(made.json.number)).source_digest]).toEqual([201, expected]);
  });

  test('one of another organization cannot be named', async () => {
    await rig.call('POST', '/api/v0/organizations', { json: { name: 'elsewhere' } });
    await rig.call('POST', '/api/v0/organizations/elsewhere/pipelines', {
      json: { name: 'p', repository: 'x/y', default_branch: 'main' },
    });
    const { status, json } = await rig.call('POST', '/api/v0/organizations/elsewhere/pipelines/p/builds', {
      json: { ...required, source_digest: digest, pipeline_ir: graph },
    });
    expect([status, json.error.code]).toEqual([422, 'build_invalid']);
  });

  test('what is no gzip, of another type, or for strangers is refused', async () => {
    const { token } = await rig.stranger();
    const attempts: [number, string, Parameters<CiRig['call']>[2]][] = [
      [422, 'source_invalid', { body: 'plain text', headers: gzip }],
      [422, 'source_invalid', { body: '', headers: gzip }],
      [422, 'source_invalid', { body: Buffer.from([0x1f]), headers: gzip }],
      [415, 'unsupported_media_type', { body: archive, headers: { 'content-type': 'text/plain' } }],
      [415, 'unsupported_media_type', { json: {} }],
      [404, 'organization_not_found', { body: archive, headers: gzip, token }],
      [401, 'unauthorized', { body: archive, headers: gzip, token: null }],
    ];
    for (const [status, code, options] of attempts) {
      const answer = await rig.call('PUT', sources, options);
      expect([answer.status, answer.json.error.code]).toEqual([status, code]);
    }
  });

  test('one that is too large is cut off and nothing of it stays', async () => {
    const small = await ciRig({ maxSourceBytes: 100_000 });
    try {
      const { status, json } = await small.call('PUT', sources, {
        body: Buffer.concat([Buffer.from([0x1f, 0x8b]), randomBytes(100_001)]),
        headers: gzip,
      });
      expect([status, json.error.code]).toEqual([413, 'payload_too_large']);
      expect(await small.db.selectFrom('sources').selectAll().execute()).toEqual([]);
    } finally {
      await small.close();
    }
  });

  test("one whose sender goes away leaves nothing and is nobody's failure", async () => {
    const { hostname, port } = new URL(rig.url);
    const from = rig.logged.length;
    const socket = connect(Number(port), hostname);
    const head = ['PUT /api/v0/organizations/local/sources HTTP/1.1', 'host: x', `authorization: Bearer ${rig.token}`];
    socket.write(`${[...head, 'content-type: application/gzip', 'content-length: 1000000'].join('\r\n')}\r\n\r\n`);
    socket.write(archive);
    await expect.poll(() => rig.uploads()).toBe(1);
    socket.destroy();
    await expect.poll(() => rig.uploads()).toBe(0);
    await expect.poll(() => rig.logged.slice(from).some((line) => line.cut_off)).toBe(true);
    expect(rig.logged.slice(from).filter(({ level }) => level === 50)).toEqual([]);
  });

  test('a capsule downloads the source of its own build and no other', async () => {
    const made = await start({ ...required, source_digest: digest, pipeline_ir: graph });
    const bare = await start({ ...required, pipeline_ir: graph });
    const [own, without] = [await rowOf(made.json.number), await rowOf(bare.json.number)];
    const expiresAtS = Math.floor(Date.now() / 1000) + 60;
    const tokenFor = (buildId: string) => signBuildToken(rig.secrets.runnerTokenSecret, { buildId, expiresAtS });
    const get = (id: string, token: string | null) =>
      rig.call('GET', `/api/v0/internal/builds/${id}/source.tar.gz`, { token });

    const response = await fetch(`${rig.url}/api/v0/internal/builds/${own.id}/source.tar.gz`, {
      headers: { authorization: `Bearer ${tokenFor(own.id)}` },
    });
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/gzip']);
    expect(Buffer.from(await response.arrayBuffer()).equals(archive)).toBe(true);

    const refused: [number, string, string | null][] = [
      [401, own.id, null],
      [401, own.id, rig.token],
      [401, own.id, signBuildToken(rig.secrets.logTokenSecret, { buildId: own.id, expiresAtS })],
      [401, own.id, signBuildToken(rig.secrets.runnerTokenSecret, { buildId: own.id, expiresAtS: 1 })],
      [404, own.id, tokenFor(without.id)],
      [404, without.id, tokenFor(without.id)],
      [404, 'nope', tokenFor(own.id)],
    ];
    for (const [status, id, token] of refused) expect((await get(id, token)).status).toBe(status);
  });
});

describe('starting a build by its source', () => {
  const path = '/api/v0/organizations/local/builds';

  test('finds the pipeline by repository in any letter case and by exact slug', async () => {
    const json = { ...required, repo_name: 'ACME/App', source_slug: 'app', pipeline_ir: graph };
    const made = await rig.call('POST', path, { json });
    expect([made.status, made.json.pipeline_slug]).toEqual([201, 'app']);
    for (const other of [{ source_slug: 'App' }, { repo_name: 'acme' }, { repo_name: '%' }, { repo_name: '' }]) {
      const missing = await rig.call('POST', path, { json: { ...json, ...other } });
      expect([missing.status, missing.json.error.code]).toEqual([404, 'pipeline_not_found']);
    }
    const bad = await rig.call('POST', path, { json: { ...json, repo_name: null } });
    expect([bad.status, bad.json.error.code]).toEqual([422, 'build_invalid']);
  });

  test('of several the oldest is meant', async () => {
    const make = async (name: string) => {
      const json = { name, repository: 'https://h.test/acme/twice', default_branch: 'main' };
      await rig.call('POST', '/api/v0/organizations/local/pipelines', { json });
      await rig.db.updateTable('pipelines').set({ source_slug: 'same' }).where('slug', '=', name).execute();
    };
    await make('older');
    await make('newer');
    const json = { ...required, repo_name: 'acme/twice', source_slug: 'same', pipeline_ir: graph };
    expect((await rig.call('POST', path, { json })).json.pipeline_slug).toBe('older');
  });
});

describe('looking at builds', () => {
  test('the list is newest first, page by page', async () => {
    const busy = await rig.pipeline('busy');
    const path = `/api/v0/organizations/local/pipelines/${busy}/builds`;
    for (let index = 0; index < 5; index++) {
      expect((await rig.call('POST', path, { json: { ...required, pipeline_ir: graph } })).status).toBe(201);
    }
    const seen: number[] = [];
    let cursor = '';
    for (;;) {
      const { json } = await rig.call('GET', `${path}?limit=2&cursor=${cursor}`);
      seen.push(...json.data.map(({ number }: { number: number }) => number));
      if (json.next_cursor === null) break;
      cursor = json.next_cursor;
      await rig.call('POST', path, { json: { ...required, pipeline_ir: graph } });
    }
    expect(seen).toEqual([5, 4, 3, 2, 1]);
  });

  test('numbers that name nothing are refused', async () => {
    for (const number of ['999', '0', '-1', '2147483647']) {
      const { status, json } = await rig.call('GET', `${builds()}/${number}`);
      expect([status, json.error.code]).toEqual([404, 'build_not_found']);
    }
    for (const number of ['x', '1.5', '1e3', '2147483648', '99999999999999999999', '%20']) {
      const { status, json } = await rig.call('GET', `${builds()}/${number}`);
      expect([status, json.error.code]).toEqual([400, 'invalid_request']);
    }
  });

  test('a log token opens the logs of that build for an hour', async () => {
    const made = await start({ ...required, pipeline_ir: graph });
    rig.nowMs = 1_800_000_000_999;
    const { status, json } = await rig.call('GET', `${builds()}/${made.json.number}/log-token`);
    rig.nowMs = null;
    expect(status).toBe(200);
    expect(json.expires_at).toBe('2027-01-15T09:00:00.000000Z');
    const { id } = await rowOf(made.json.number);
    expect(verifyBuildToken(rig.secrets.logTokenSecret, json.token, 1_800_003_599_999)).toBe(id);
    expect(verifyBuildToken(rig.secrets.logTokenSecret, json.token, 1_800_003_600_000)).toBeNull();
    expect((await rig.call('GET', `${builds()}/999/log-token`)).json.error.code).toBe('build_not_found');
  });
});

describe('jobs', () => {
  test('come in the order of the plan with their prerequisites, and never show a rendering', async () => {
    const made = await start({ ...required, pipeline_ir: graph });
    const build = await rowOf(made.json.number);
    const { status, json } = await rig.call('GET', `${builds()}/${made.json.number}/jobs`);
    expect(status).toBe(200);
    const [install, test, lint] = json.data;
    expect(json.data).toHaveLength(3);
    expect(install).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      step_key: 'install',
      name: null,
      state: 'scheduled',
      command: 'npm ci',
      exit_code: null,
      soft_failed: false,
      soft_fail_policy: null,
      retry_policy: null,
      error_code: null,
      error_message: null,
      depends_on: [],
      created_at: moment,
      started_at: null,
      finished_at: null,
    });
    expect([test.state, test.depends_on]).toEqual(['pending', [install.id]]);
    expect(lint.depends_on).toEqual([install.id]);
    expect((await rig.call('GET', `${builds()}/${made.json.number}/jobs/${test.id}`)).json).toEqual(test);

    await rig.db.updateTable('jobs').set({ kind: 'render' }).where('id', '=', lint.id).execute();
    expect((await rig.call('GET', `${builds()}/${made.json.number}/jobs`)).json.data).toHaveLength(2);
    for (const id of [lint.id, 'nope', build.id, '00000000-0000-0000-0000-000000000000']) {
      const missing = await rig.call('GET', `${builds()}/${made.json.number}/jobs/${id}`);
      expect([missing.status, missing.json.error.code]).toEqual([404, 'job_not_found']);
    }
  });

  test('whoever knows them is answered when something has changed', async () => {
    const made = await start({ ...required, pipeline_ir: graph });
    const path = `${builds()}/${made.json.number}`;
    const { tag } = (await rig.call('GET', `${path}/jobs`)).json;
    expect((await rig.call('GET', `${path}/jobs?known=other`)).json.tag).toBe(tag);
    const order: string[] = [];
    const waiting = rig.call('GET', `${path}/jobs?known=${tag}`).then(({ json }) => {
      order.push('answered');
      return json;
    });
    // Long after the question has arrived.
    await rig.call('GET', `${path}/jobs`);
    order.push('asked');
    await rig.call('PUT', `${path}/cancel`);
    const answer = await waiting;
    expect(order).toEqual(['asked', 'answered']);
    expect(answer.tag).not.toBe(tag);
    expect(answer.data.every(({ state }: { state: string }) => state === 'canceled')).toBe(true);
  });

  test('one of another build is not found', async () => {
    const [one, two] = [
      await start({ ...required, pipeline_ir: graph }),
      await start({ ...required, pipeline_ir: graph }),
    ];
    const { json } = await rig.call('GET', `${builds()}/${one.json.number}/jobs`);
    const missing = await rig.call('GET', `${builds()}/${two.json.number}/jobs/${json.data[0].id}`);
    expect(missing.json.error.code).toBe('job_not_found');
  });
});

describe('canceling', () => {
  test('ends a waiting build, and a second time changes nothing', async () => {
    const made = await start({ ...required, pipeline_ir: graph });
    const path = `${builds()}/${made.json.number}`;
    const canceled = await rig.call('PUT', `${path}/cancel`);
    expect([canceled.status, canceled.json.state]).toEqual([200, 'canceled']);
    expect(canceled.json.finished_at).toEqual(moment);
    const again = await rig.call('PUT', `${path}/cancel`, {
      body: '',
      headers: { 'content-type': 'application/json' },
    });
    expect([again.status, again.json]).toEqual([200, canceled.json]);
    const { json } = await rig.call('GET', `${path}/jobs`);
    expect(new Set(json.data.map(({ state }: { state: string }) => state))).toEqual(new Set(['canceled']));
    expect((await rig.call('PUT', `${builds()}/999/cancel`)).json.error.code).toBe('build_not_found');
  });

  test('a build that has passed stays passed', async () => {
    const running = await ciRig({ hosts: [scriptedHost(() => exited(0))] });
    try {
      const name = await running.pipeline('quick');
      const { number } = await running.build(name, ir({ a: ['true'] }));
      const path = `/api/v0/organizations/local/pipelines/${name}/builds/${number}`;
      await expect.poll(async () => (await running.call('GET', path)).json.state, { timeout: 20_000 }).toBe('passed');
      const { status, json } = await running.call('PUT', `${path}/cancel`);
      expect([status, json.state, json.started_at]).toEqual([200, 'passed', moment]);
    } finally {
      await running.close();
    }
  });
});
