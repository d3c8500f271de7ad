import { afterAll, beforeAll, expect, test } from 'vitest';
import { readContract } from '../doors/ci/contract.ts';
import { signBuildToken } from '../identity/build-token.ts';
import { type CiRig, ciRig } from './ci-rig.ts';
import { ir } from './ir.ts';

let rig: CiRig;
let runnerToken: string;
beforeAll(async () => {
  rig = await ciRig();
  const { id } = await rig.build(await rig.pipeline(), graph);
  const job = await rig.db.selectFrom('jobs').select('id').where('build_id', '=', id).executeTakeFirstOrThrow();
  Object.assign(plausible, { job_id: job.id, build_uuid: id });
  runnerToken = signBuildToken(rig.secrets.runnerTokenSecret, { buildId: id, expiresAtS: 4_000_000_000 });
});
afterAll(() => rig.close());

const graph = ir({ a: ['true'] });
const plausible: Record<string, string> = { org: 'local', pipeline: 'ci', number: '1', id: '1' };

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body?: string;
  readonly type?: string;
}

/** Values of every type, at the edges of what a column, a URL or a parser takes. */
const values: unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  9_007_199_254_740_992,
  '',
  ' ',
  'x',
  'a\u0000b',
  'a\ud800b',
  "'; drop table users; --",
  '%00%ff',
  '2026-02-30T25:61:61Z',
  '0000-01-01T00:00:00Z',
  'é'.repeat(300),
  'x'.repeat(70_000),
  [],
  [[]],
  ['x'],
  {},
  { constructor: 1, toString: null },
  { a: { b: { c: [null] } } },
];

const segments = [
  'local',
  'ci',
  '1',
  '0',
  '-1',
  '99999999999999999999',
  '1.0',
  'NaN',
  '%00',
  '%F0%28%8C%28',
  '%E2%82%AC',
  '..%2F..',
  "'",
  'constructor',
  '__proto__',
  '00000000-0000-0000-0000-000000000000',
  '00000000-0000-0000-0000-00000000000G',
  'a'.repeat(500),
];

const queries = [
  '?limit=0&cursor=',
  '?limit=1e9',
  '?limit=-1',
  '?limit[]=1',
  '?limit=1&limit=2',
  '?cursor=%00',
  '?cursor=AAAA',
  '?cursor=MjAyNi0wMi0zMFQwMDowMDowMC4wMDAwMDBaAHg',
  '?from=x&to=y',
  '?from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z',
  '?__proto__=1&constructor=2&toString=3',
  '?%ff=%ff',
];

const operations = [...readContract().operations.values()];

interface Fields {
  readonly properties?: Record<string, unknown>;
  readonly required?: readonly string[];
}

const { document } = readContract();

function bodyOf(id: string): Fields {
  for (const methods of Object.values(document.paths)) {
    for (const operation of Object.values(methods)) {
      if (operation.operationId !== id) continue;
      const body = operation.requestBody as { content?: Record<string, { schema: { $ref?: string } }> } | undefined;
      const name = body?.content?.['application/json']?.schema.$ref?.split('/').at(-1);
      const schema = name ? (document.components.schemas[name] as Fields) : undefined;
      return schema ?? {};
    }
  }
  return {};
}

function pathOf(id: string, fill: (name: string) => string): string {
  const path = Object.entries(document.paths).find(([, methods]) =>
    Object.values(methods).some((operation) => operation.operationId === id),
  )?.[0];
  return (path ?? '').replace(/\{(\w+)\}/g, (_, name: string) => fill(name));
}

const plainFill = (name: string) => plausible[name] ?? 'x';

/** Everything that is tried on one operation. */
function callsOf(id: string, method: string): Call[] {
  const path = pathOf(id, plainFill);
  const names = [...pathOf(id, (name) => `{${name}}`).matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '');
  const inPath = names.flatMap((target) =>
    segments.map((segment) => ({ method, path: pathOf(id, (name) => (name === target ? segment : plainFill(name))) })),
  );
  const inQuery = queries.map((query) => ({ method, path: path + query }));
  if (method === 'GET') return [...inPath, ...inQuery];
  const json = 'application/json';
  const { properties = {}, required = [] } = bodyOf(id);
  const fields = Object.keys(properties);
  const filler = {
    ...Object.fromEntries(required.map((field) => [field, 'x'])),
    ...('pipeline_ir' in properties ? { pipeline_ir: graph } : {}),
  };
  const whole = [...values, filler].map((value) => ({ method, path, body: JSON.stringify(value), type: json }));
  const single = fields.flatMap((field) =>
    values.map((value) => ({ method, path, body: JSON.stringify({ ...filler, [field]: value }), type: json })),
  );
  const broken = ['', '{', '[[', 'nul', '"', '{"a":1}x', '\u0000', `${'['.repeat(50_000)}`].map((body) => ({
    method,
    path,
    body,
    type: json,
  }));
  const foreign = ['text/plain', 'application/gzip', 'application/octet-stream', 'multipart/form-data', ';', 'é'].map(
    (type) => ({ method, path, body: '{"a":1}', type: encodeURI(type) }),
  );
  return [...inPath, ...inQuery, ...whole, ...single, ...broken, ...foreign, { method, path }];
}

async function offence(call: Call, token: string): Promise<string | null> {
  const { status, text, json, headers } = await rig.call(call.method, call.path, {
    token,
    ...(call.body === undefined ? {} : { body: call.body }),
    ...(call.type === undefined ? {} : { headers: { 'content-type': call.type } }),
  });
  const what = `${call.method} ${call.path.slice(0, 200)} ${call.type ?? ''} ${call.body?.slice(0, 200) ?? ''} → ${status} ${text.slice(0, 200)}`;
  if (status >= 500 && status !== 501) return what;
  if (status < 400) return null;
  const { error } = json ?? {};
  const isEnvelope =
    error &&
    ['type', 'code', 'message', 'doc_url', 'request_id'].every((key) => typeof error[key] === 'string') &&
    error.request_id === headers.get('x-request-id');
  return isEnvelope ? null : what;
}

const destructive = new Set(['logout', 'deleteCurrentUser']);

test.each(operations.map(({ id, method, security }) => [id, method, security] as const))(
  '%s refuses every wrong input in the envelope and never fails',
  async (id, method, security) => {
    const token = security === 'runnerToken' ? runnerToken : rig.token;
    const calls = destructive.has(id) ? [] : callsOf(id, method);
    const offences: string[] = [];
    while (calls.length > 0) {
      const found = await Promise.all(calls.splice(0, 16).map((call) => offence(call, token)));
      offences.push(...found.filter((text) => text !== null));
    }
    expect(offences).toEqual([]);
  },
);

test.each(operations.filter(({ security }) => security !== 'none').map(({ id, method }) => [id, method] as const))(
  '%s answers 401 to the signed out, before it looks at anything else',
  async (id, method) => {
    for (const authorization of ['', 'Bearer', 'Bearer ', 'bearer x', `Basic ${rig.token}`, rig.token]) {
      const { status, json } = await rig.call(
        method,
        pathOf(id, () => 'x'),
        {
          token: null,
          headers: authorization === '' ? {} : { authorization },
        },
      );
      expect([401, 429]).toContain(status);
      expect(['unauthorized', 'rate_limited']).toContain(json.error.code);
    }
  },
);

test('the first user and everything else is still there', async () => {
  expect((await rig.call('GET', '/api/v0/user')).status).toBe(200);
  expect((await rig.call('GET', '/api/v0/organizations/local/pipelines/ci')).status).toBe(200);
});
