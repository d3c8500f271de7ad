import { existsSync, readFileSync } from 'node:fs';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { ciDocument, ciOperations } from '../ci/document.ts';
import { implementedOperations } from '../ci/implemented.ts';
import { wireFacts } from './wire-facts.ts';

const spec = new URL('../../../shared/specs/harmont.full.openapi.json', import.meta.url);
const wire = readLines(new URL('ci-wire.txt', import.meta.url));

/** Every difference between our document and the wire, and why it is right. A rule nothing needs any more fails the test. */
const allowed: readonly { readonly reason: string; readonly ours?: RegExp; readonly wire?: RegExp }[] = [
  {
    reason: 'the wire answers these refusals but its document leaves them out',
    ours: /^operation \w+ answer (?:4\d\d|5\d\d|default) application\/json Error$/,
  },
  {
    reason: 'a nullable field of an answer is always present',
    wire: /^schema (?!\w+Request\.)\w+\.\w+\? .*\|null$/,
    ours: /^schema (?!\w+Request\.)\w+\.\w+ .*\|null$/,
  },
  {
    reason: 'the envelope always carries page and request id, and names a build that was left behind',
    wire: /^schema Error\.error /,
    ours: /^schema Error\.error \{.*\.doc_url string, \.request_id string, \.build_error_code\? string, \.build_number\? integer\}$/,
  },
  {
    reason: 'a limit that is no number counts as absent',
    wire: /^operation list\w+ query limit\? integer$/,
    ours: /^operation list\w+ query limit\? integer or string$/,
  },
  {
    reason: 'ping always says ok',
    wire: /^operation ping answer 200 .*\{\.status string\}$/,
    ours: /^operation ping answer 200 .*\{\.status ok\}$/,
  },
  {
    reason: 'a number beyond its column is refused before a query sees it',
    wire: /^(?:operation \w+ path (?:number|id)|schema ConnectInstallationRequest\.installation_id) integer$/,
    ours: /^(?:operation \w+ path (?:number|id)|schema ConnectInstallationRequest\.installation_id) integer\([-\d]+\.\.\d+\)$/,
  },
  {
    reason: 'our addition: streamed upload of sources',
    ours: /^operation uploadSource |^schema SourceUploadResponse\./,
  },
  {
    reason: 'our additions to the request for a build',
    ours: /^schema Create(?:Repo)?BuildRequest\.(?:source_digest|stop_on_failure|source_slug)\? /,
  },
  {
    reason: 'our addition: a build can be followed without asking again and again',
    ours: /^operation listJobs query known\? |^schema JobList\.tag /,
  },
  {
    reason: 'our addition: a pipeline says what it is called in its source',
    ours: /^schema CreatePipelineRequest\.source_slug\? /,
  },
];

test('the document promises what the wire promises', () => {
  const ours = new Set(wireFacts({ ...ciDocument() }));
  const missing = wire.filter((fact) => !ours.has(fact));
  const added = [...ours].filter((fact) => !wire.includes(fact));
  expect(missing.filter((fact) => !allowed.some((rule) => rule.wire?.test(fact)))).toEqual([]);
  expect(added.filter((fact) => !allowed.some((rule) => rule.ours?.test(fact)))).toEqual([]);
  const idle = allowed.filter(
    ({ wire: gone, ours: come }) =>
      (gone && !missing.some((fact) => gone.test(fact))) || (come && !added.some((fact) => come.test(fact))),
  );
  expect(idle.map(({ reason }) => reason)).toEqual([]);
});

test('no property of the wire is gone, whatever the rules allow', () => {
  const ours = wireFacts({ ...ciDocument() }).filter((fact) => fact.startsWith('schema '));
  const names = new Set(ours.map((fact) => fact.split(' ')[1]?.replace('?', '')));
  expect(wire.filter((fact) => fact.startsWith('schema ') && !names.has(fact.split(' ')[1]?.replace('?', '')))).toEqual(
    [],
  );
});

const title = 'the recorded wire is that of the specification';
if (existsSync(spec)) {
  test(title, () => {
    expect(wire).toEqual(wireFacts(JSON.parse(readFileSync(spec, 'utf8'))));
  });
} else {
  console.warn(`skipped: ${title} (no specification beside the repository)`);
  test.skip(title);
}

test('the document is valid OpenAPI', async () => {
  expect(await new Validator().validate(JSON.parse(JSON.stringify(ciDocument())))).toEqual({ valid: true });
});

test('the committed document is the one its source builds', () => {
  const committed = readFileSync(new URL('../ci/openapi.json', import.meta.url), 'utf8');
  expect(JSON.parse(committed)).toEqual(JSON.parse(JSON.stringify(ciDocument())));
});

test('operations have names of their own, and every implemented one exists', () => {
  const ids = ciOperations.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect(implementedOperations.filter((id) => !ids.includes(id))).toEqual([]);
});

test('every schema is used and every reference leads to one', () => {
  const text = JSON.stringify(ciDocument());
  const references = new Set([...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map((match) => match[1]));
  expect([...references].sort()).toEqual(Object.keys(ciDocument().components.schemas).sort());
});

test('our own entries are marked', () => {
  const document = ciDocument();
  expect(document.paths['/api/v0/organizations/{org}/sources']?.put?.['x-caisson']).toBe(true);
  expect(document.components.schemas.CreateBuildRequest).toMatchObject({
    properties: { source_digest: { 'x-caisson': true }, stop_on_failure: { 'x-caisson': true } },
  });
});

function readLines(file: URL): readonly string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
}
