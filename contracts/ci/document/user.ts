import type { Operation } from './operation.ts';
import { type JsonSchema, listOf, nullable, record, ref, text, time, uuid, words } from './schema.ts';

export const userOperations: readonly Operation[] = [
  {
    id: 'getCurrentUser',
    method: 'get',
    path: '/api/v0/user',
    tag: 'user',
    security: 'bearer',
    summary: 'Who the token belongs to',
    answer: { status: 200, schema: 'CurrentUserResponse', description: 'The caller.' },
  },
  {
    id: 'updateCurrentUser',
    method: 'patch',
    path: '/api/v0/user',
    tag: 'user',
    security: 'bearer',
    summary: 'Change your name',
    body: { schema: 'UserUpdateRequest' },
    answer: { status: 200, schema: 'CurrentUserResponse', description: 'The caller with the new name.' },
    invalid: 'user_name_invalid',
  },
  {
    id: 'deleteCurrentUser',
    method: 'delete',
    path: '/api/v0/user',
    tag: 'user',
    security: 'bearer',
    summary: 'Delete your account',
    answer: { status: 204, description: 'The account and all of its tokens are gone.' },
    refusals: ['account_has_billing_history'],
  },
  {
    id: 'listApiTokens',
    method: 'get',
    path: '/api/v0/user/api-tokens',
    tag: 'user',
    security: 'bearer',
    summary: 'List your personal tokens',
    answer: {
      status: 200,
      schema: 'ApiTokenListResponse',
      description: 'All of them, newest first, without their secrets.',
    },
  },
  {
    id: 'createApiToken',
    method: 'post',
    path: '/api/v0/user/api-tokens',
    tag: 'user',
    security: 'bearer',
    summary: 'Make a personal token',
    body: { schema: 'ApiTokenCreateRequest' },
    answer: { status: 201, schema: 'ApiTokenCreateResponse', description: 'The token; its secret is shown only here.' },
  },
  {
    id: 'revokeApiToken',
    method: 'delete',
    path: '/api/v0/user/api-tokens/{id}',
    tag: 'user',
    security: 'bearer',
    summary: 'Revoke a personal token',
    answer: { status: 204, description: 'The token no longer works.' },
    refusals: ['api_token_not_found'],
  },
];

export const userSchemas: Readonly<Record<string, JsonSchema>> = {
  CurrentUserResponse: record('The caller.', {
    uuid: uuid('Id of the user.'),
    email: text('E-mail address.'),
    name: nullable(text('Display name.')),
    personal_org_slug: nullable(text('Slug of the organization made for this user.')),
  }),
  UserUpdateRequest: record('What to change.', { name: words('The new display name.', 255) }),
  ApiToken: record('A personal token without its secret.', {
    id: uuid('Id of the token.'),
    description: nullable(text('What it is for.')),
    created_at: time('When it was made.'),
    expires_at: nullable(time('When it stops working; null for never.')),
    last_used_at: nullable(time('Last use, exact to a minute.')),
  }),
  ApiTokenListResponse: record('Your personal tokens.', { api_tokens: listOf(ref('ApiToken'), 'All of them.') }),
  ApiTokenCreateRequest: record(
    'The token to make.',
    { description: text('What it is for.', { maxLength: 255 }) },
    { expires_at: nullable(time('When it stops working; absent or null for never.')) },
  ),
  ApiTokenCreateResponse: record('A new personal token.', {
    token: text('The secret: `hm_` and 43 characters.'),
    api_token: ref('ApiToken'),
  }),
};
