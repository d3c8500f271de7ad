import type { Operation } from './operation.ts';
import { type JsonSchema, nullable, record, ref, text, uuid, words } from './schema.ts';

const oauthFailures = ['oauth_provider_error', 'signup_cap_reached', 'signup_failed'] as const;

export const authOperations: readonly Operation[] = [
  {
    id: 'authGoogle',
    method: 'post',
    path: '/api/v0/auth/google',
    tag: 'auth',
    internal: true,
    security: 'none',
    summary: 'Sign in with Google',
    description:
      'Trades the code of a finished Google consent for a session. An unknown user gets an account and an own organization.',
    body: { schema: 'AuthGoogleRequest' },
    answer: { status: 200, schema: 'AuthTokenResponse', description: 'Signed in.' },
    refusals: oauthFailures,
  },
  {
    id: 'authGithub',
    method: 'post',
    path: '/api/v0/auth/github',
    tag: 'auth',
    internal: true,
    security: 'none',
    summary: 'Sign in with GitHub',
    description:
      'Trades the code of a finished GitHub consent for a session. An unknown user gets an account and an own organization.',
    body: { schema: 'AuthGithubRequest' },
    answer: { status: 200, schema: 'AuthTokenResponse', description: 'Signed in.' },
    refusals: oauthFailures,
  },
  {
    id: 'cliTransfer',
    method: 'post',
    path: '/api/v0/auth/cli/transfer',
    tag: 'auth',
    security: 'bearer',
    summary: 'Hand a session to a waiting CLI',
    description: 'Makes a session for the caller and keeps it for a minute for whoever shows the same nonce.',
    body: { schema: 'CliTransferRequest' },
    answer: { status: 204, description: 'Ready to be claimed.' },
  },
  {
    id: 'cliClaim',
    method: 'post',
    path: '/api/v0/auth/cli/claim',
    tag: 'auth',
    security: 'none',
    summary: 'Claim the session handed over in the browser',
    description: 'Polled by the CLI. `cli_code_invalid` also means that nobody has confirmed yet.',
    body: { schema: 'CliClaimRequest' },
    answer: { status: 200, schema: 'CliTokenResponse', description: 'The session, once.' },
    refusals: ['cli_code_invalid'],
  },
  {
    id: 'cliCode',
    method: 'post',
    path: '/api/v0/auth/cli/code',
    tag: 'auth',
    security: 'bearer',
    summary: 'Get a code to type into a CLI',
    answer: { status: 200, schema: 'CliCodeResponse', description: 'A code that works once, within five minutes.' },
  },
  {
    id: 'cliRedeem',
    method: 'post',
    path: '/api/v0/auth/cli/redeem',
    tag: 'auth',
    security: 'none',
    summary: 'Trade a typed code for a session',
    body: { schema: 'CliRedeemRequest' },
    answer: { status: 200, schema: 'CliTokenResponse', description: 'The session.' },
    refusals: ['cli_code_invalid'],
  },
  {
    id: 'logout',
    method: 'post',
    path: '/api/v0/auth/logout',
    tag: 'auth',
    security: 'bearer',
    summary: 'Sign out',
    description: 'Deletes the token this request was made with, a personal token too.',
    answer: { status: 204, description: 'The token no longer works.' },
  },
];

const oauthRequest = (provider: string): JsonSchema =>
  record(`What came back from the consent page of ${provider}.`, {
    code: text('The one-time code.', { minLength: 1, maxLength: 4096 }),
    redirect_uri: text('The address the consent was asked for.', { minLength: 1, maxLength: 2048 }),
  });

export const authSchemas: Readonly<Record<string, JsonSchema>> = {
  AuthGoogleRequest: oauthRequest('Google'),
  AuthGithubRequest: oauthRequest('GitHub'),
  AuthTokenResponse: record('A session and whose it is.', {
    token: text('The bearer token; it is shown only here.'),
    user: ref('User'),
  }),
  User: record('A person with an account.', {
    uuid: uuid('Id of the user.'),
    email: text('E-mail address.'),
    name: nullable(text('Display name.')),
  }),
  TokenResponse: record('A session.', { token: text('The bearer token; it is shown only here.') }),
  CliTransferRequest: record('Which CLI waits.', {
    nonce: text('The random text the CLI showed in its link.', { minLength: 1, maxLength: 1024 }),
  }),
  CliClaimRequest: record('Which hand-over to claim.', {
    nonce: text('The random text the CLI put in its link.', { minLength: 1, maxLength: 1024 }),
  }),
  CliCodeResponse: record('A code for a CLI.', { code: text('16 characters, none of them easily confused.') }),
  CliRedeemRequest: record('A code from the browser.', { code: words('The code as typed.', 255) }),
  CliTokenResponse: record('A session for a CLI.', { token: text('The bearer token; it is shown only here.') }),
};
