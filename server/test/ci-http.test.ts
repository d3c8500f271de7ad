import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { failureOf } from '../doors/ci/failure-of.ts';
import { openDatabase } from '../store/database.ts';
import { type CiRig, ciRig } from './ci-rig.ts';
import { ir } from './ir.ts';

let rig: CiRig;
beforeAll(async () => {
  rig = await ciRig({ settings: { corsOrigins: ['http://dashboard.test'] } });
});
afterAll(() => rig.close());

describe('the envelope', () => {
  test('an unknown path is a 404 with all keys of the envelope', async () => {
    const { status, json, headers } = await rig.call('GET', '/api/v0/nothing-here');
    expect(status).toBe(404);
    expect(json).toEqual({
      error: {
        type: 'not_found',
        code: 'not_found',
        message: expect.any(String),
        doc_url: `${rig.url}/docs/errors/not_found`,
        request_id: headers.get('x-request-id'),
      },
    });
  });

  test('doc_url leads to a page', async () => {
    const { json } = await rig.call('GET', '/nowhere');
    const page = await fetch(json.error.doc_url);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('not_found');
    expect((await rig.call('GET', '/docs/errors/constructor')).status).toBe(404);
  });

  test('a known path with another method is a 405 that names the right ones', async () => {
    const { status, json, headers } = await rig.call('DELETE', '/api/v0/ping');
    expect(status).toBe(405);
    expect(json.error.code).toBe('method_not_allowed');
    expect(headers.get('allow')).toBe('GET, HEAD, OPTIONS');
  });

  test('malformed JSON is a 400', async () => {
    const headers = { 'content-type': 'application/json' };
    for (const body of ['{', '', 'nope', '{"__proto__": {"a": 1}, "name": "x"}']) {
      const answer = await rig.call('POST', '/api/v0/organizations', { body, headers });
      expect([answer.status, answer.json.error.code]).toEqual([400, 'invalid_request']);
    }
  });

  test('a body of another media type is a 415', async () => {
    for (const type of ['text/plain', 'application/xml', 'application/gzip', 'application/octet-stream', 'x']) {
      const headers = { 'content-type': type };
      const { status, json } = await rig.call('POST', '/api/v0/organizations', { body: '{"name":"a"}', headers });
      expect([status, json.error.code]).toEqual([415, 'unsupported_media_type']);
    }
  });

  test('a missing body is refused by the schema', async () => {
    const { status, json } = await rig.call('POST', '/api/v0/organizations');
    expect([status, json.error.code]).toEqual([422, 'organization_invalid']);
  });

  test('a body over 8,000,000 bytes is a 413', async () => {
    const { status, json } = await rig.call('POST', '/api/v0/organizations', { json: { name: 'x'.repeat(8_000_001) } });
    expect([status, json.error.code]).toEqual([413, 'payload_too_large']);
  });

  test('a body nested deeper than the stack is refused, not a failure', async () => {
    const body = `{"name":"a","url":${'['.repeat(200_000)}${']'.repeat(200_000)}}`;
    const { status } = await rig.call('POST', '/api/v0/organizations', {
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(status).toBe(422);
  });

  test('a validation message names the field', async () => {
    const { json } = await rig.call('POST', '/api/v0/user/api-tokens', { json: { description: 5 } });
    expect(json.error.code).toBe('invalid_request');
    expect(json.error.message).toContain('description');
  });

  test('a broken percent escape and an endless path parameter get the envelope', async () => {
    const broken = await rig.call('GET', '/api/v0/organizations/%zz');
    expect([broken.status, broken.json.error.code]).toEqual([400, 'invalid_request']);
    const long = await rig.call('GET', `/api/v0/organizations/${'a'.repeat(3000)}`);
    expect([long.status, long.json.error.code]).toEqual([400, 'invalid_request']);
    expect(long.headers.get('x-request-id')).toBe(long.json.error.request_id);
  });

  test('bytes that are no HTTP get a 400', async () => {
    const { hostname, port } = new URL(rig.url);
    const socket = connect(Number(port), hostname);
    socket.write('what is this\r\n\r\n');
    const answer = await text(socket);
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
    expect(answer).toContain('"code":"invalid_request"');
  });

  test('an operation that is not built answers 501', async () => {
    const { status, json } = await rig.call('GET', '/api/v0/user/passkeys');
    expect([status, json.error.code, json.error.type]).toEqual([501, 'not_implemented', 'not_implemented']);
  });
});

describe('request ids', () => {
  test('a well-formed one is kept, any other is replaced', async () => {
    const kept = await rig.call('GET', '/api/v0/ping', { headers: { 'x-request-id': 'my-request.0001' } });
    expect(kept.headers.get('x-request-id')).toBe('my-request.0001');
    for (const id of ['short', 'has spaces in it', 'x'.repeat(200), '"><script>']) {
      const replaced = await rig.call('GET', '/api/v0/ping', { headers: { 'x-request-id': id } });
      expect(replaced.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    }
  });
});

describe('browsers', () => {
  test('a known origin may ask and read', async () => {
    const preflight = await rig.call('OPTIONS', '/api/v0/user', {
      token: null,
      headers: { origin: 'http://dashboard.test', 'access-control-request-method': 'PATCH' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-methods')).toContain('PATCH');
    const refused = await rig.call('GET', '/api/v0/user', {
      token: null,
      headers: { origin: 'http://dashboard.test' },
    });
    expect(refused.status).toBe(401);
    expect(refused.headers.get('access-control-allow-origin')).toBe('http://dashboard.test');
  });

  test('any other origin gets no leave', async () => {
    const { headers } = await rig.call('GET', '/api/v0/ping', { headers: { origin: 'http://evil.test' } });
    expect(headers.get('access-control-allow-origin')).toBeNull();
    const plain = await rig.call('OPTIONS', '/api/v0/user', { token: null });
    expect([plain.status, plain.headers.get('allow')]).toEqual([204, 'GET, PATCH, DELETE, HEAD, OPTIONS']);
  });

  test('HEAD answers like GET without a body', async () => {
    const { status, text: body } = await rig.call('HEAD', '/api/v0/ping');
    expect([status, body]).toEqual([200, '']);
    expect((await rig.call('HEAD', '/api/v0/user', { token: null })).status).toBe(401);
  });
});

describe('around the door', () => {
  test('ping needs no token', async () => {
    const { status, json } = await rig.call('GET', '/api/v0/ping', { token: null });
    expect([status, json]).toEqual([200, { status: 'ok' }]);
  });

  test('the document is served and names every operation', async () => {
    const { json } = await rig.call('GET', '/api/v0/openapi.json', { token: null });
    const ids = Object.values<Record<string, { operationId: string }>>(json.paths).flatMap((methods) =>
      Object.values(methods).map((operation) => operation.operationId),
    );
    expect(ids.length).toBeGreaterThanOrEqual(67);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('healthz tells when the process is about to stop', async () => {
    expect([(await rig.call('GET', '/healthz')).status, (await rig.call('GET', '/healthz')).text]).toEqual([200, 'ok']);
    rig.isDraining = true;
    const draining = await rig.call('GET', '/healthz');
    rig.isDraining = false;
    expect([draining.status, draining.text]).toEqual([503, 'draining']);
  });

  test('metrics count requests by operation and unfinished builds and jobs by state', async () => {
    await rig.call('GET', '/api/v0/ping');
    const pipeline = await rig.pipeline('measured');
    await rig.build(pipeline, JSON.stringify({ version: '0', steps: [{ type: 'command', key: 'a', cmd: 'true' }] }));
    const { status, text: page } = await rig.call('GET', '/metrics', { token: null });
    expect(status).toBe(200);
    expect(page).toMatch(/caisson_http_request_seconds_count\{operation="ping",method="GET",status="200"\} \d/);
    expect(page).toContain('caisson_builds{state="scheduled"} 1');
    expect(page).toContain('caisson_jobs{state="scheduled"} 1');
    expect(page).toContain('process_cpu_seconds_total');
  });

  test('the log has one line per request and no token', async () => {
    const from = rig.logged.length;
    await rig.call('GET', '/api/v0/user');
    await rig.call('GET', `/v0/jobs/x/logs?token=${rig.token}`);
    await rig.call('GET', `/api/v0/nothing?token=${rig.token}`);
    await rig.call('GET', `/api/v0/user/passkeys`, { headers: { cookie: rig.token } });
    await expect.poll(() => rig.logged.length - from).toBe(4);
    const lines = rig.logged.slice(from);
    expect(lines.map(({ operation, status }) => [operation, status])).toEqual([
      ['getCurrentUser', 200],
      ['streamJobLogs', 401],
      ['unknown', 404],
      ['listPasskeys', 501],
    ]);
    expect(lines[0]).toMatchObject({ method: 'GET', path: '/api/v0/user', user_id: expect.any(String) });
    expect(JSON.stringify(rig.logged)).not.toContain(rig.token.slice(3));
  });
});

test('a failure of ours tells nothing and logs the cause', async () => {
  const pipeline = await rig.pipeline('broken');
  const { number } = await rig.build(pipeline, ir({ a: ['true'] }));
  await sql`alter table job_dependencies rename to hidden`.execute(rig.db);
  const from = rig.logged.length;
  try {
    const path = `/api/v0/organizations/local/pipelines/${pipeline}/builds/${number}/jobs`;
    const { status, json } = await rig.call('GET', path);
    expect([status, json.error.code, json.error.type]).toEqual([500, 'internal_error', 'server_error']);
    expect(json.error.message).not.toMatch(/relation|job_dependencies|select/);
    const line = rig.logged.slice(from).find(({ level }) => level === 50);
    expect(line).toMatchObject({
      request_id: json.error.request_id,
      err: { message: expect.stringContaining('relation') },
    });
  } finally {
    await sql`alter table hidden rename to job_dependencies`.execute(rig.db);
  }
});

test('a database that is away is a 503', async () => {
  const refused = async (connectionString: string) => {
    const open = openDatabase(connectionString);
    const error = await open.db
      .selectFrom('users')
      .selectAll()
      .execute()
      .catch((caught) => caught);
    await open.close();
    return failureOf(error, 'invalid_request').code;
  };
  expect(await refused('postgres://u@127.0.0.1:1/x')).toBe('database_unavailable');
  expect(await refused('postgres://u@localhost/x?host=/nowhere')).toBe('database_unavailable');
  const ended = await sql`select pg_terminate_backend(pg_backend_pid())`.execute(rig.db).catch((caught) => caught);
  expect(failureOf(ended, 'invalid_request').code).toBe('database_unavailable');
});
