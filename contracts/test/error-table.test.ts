import { expect, test } from 'vitest';
import { AppError, hasCode } from '../app-error.ts';
import { ciErrorEnvelope } from '../ci/error-envelope.ts';
import { ciErrorTypes, type ErrorRow } from '../error-row.ts';
import { errorTable } from '../error-table.ts';

const rows: readonly [string, ErrorRow][] = Object.entries(errorTable);
const docsBaseUrl = 'http://127.0.0.1:1/docs';

test('the envelope has its five fields and the status of its code', () => {
  const failure = { code: 'pipeline_slug_taken', message: 'ci exists', requestId: 'r1', docsBaseUrl } as const;
  expect(ciErrorEnvelope(failure)).toEqual({
    status: 422,
    body: {
      error: {
        type: 'validation_failed',
        code: 'pipeline_slug_taken',
        message: 'ci exists',
        doc_url: 'http://127.0.0.1:1/docs/errors/pipeline_slug_taken',
        request_id: 'r1',
      },
    },
  });
});

test('a code of the inside is an internal error and keeps its message to itself', () => {
  const { status, body } = ciErrorEnvelope({ code: 'guest_protocol', message: 'secret', requestId: 'r', docsBaseUrl });
  expect([status, body.error.code]).toEqual([500, 'internal_error']);
  expect(JSON.stringify(body)).not.toContain('secret');
});

test('every code says what to do, with a known type and a status that fits', () => {
  for (const [code, { help, ci, retryable }] of rows) {
    expect(code).toMatch(/^[a-z]+(?:_[a-z]+)*$/);
    expect(help, code).toMatch(/\.$/);
    if (!ci) continue;
    expect(ciErrorTypes).toContain(ci.type);
    expect(ci.status, code).toBeGreaterThanOrEqual(400);
    if (retryable) expect([429, 500, 502, 503], code).toContain(ci.status);
  }
});

test.each([
  ['account_has_billing_history', 409, 'conflict'],
  ['billing_insufficient_balance', 402, 'billing'],
  ['billing_unconfigured', 503, 'server_error'],
  ['passkey_already_registered', 409, 'passkey_already_registered'],
  ['oauth_provider_error', 502, 'oauth_provider_error'],
  ['bitbucket_connect_failed', 502, 'bad_gateway'],
  ['organization_invalid', 422, 'unprocessable_entity'],
  ['user_name_invalid', 422, 'invalid_request'],
  ['stripe_signature_invalid', 400, 'validation_failed'],
  ['log_stream_unauthorized', 401, 'unauthorized'],
] as const)('%s is %i %s', (code, status, type) => {
  expect(errorTable[code].ci).toEqual({ status, type });
});

test('an error is known by its code', () => {
  expect(hasCode(new AppError('build_not_found', 'no build 7'), 'build_not_found')).toBe(true);
  expect(hasCode(new Error('other'), 'build_not_found')).toBe(false);
});
