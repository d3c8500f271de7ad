import type { Operation } from './operation.ts';
import { paging } from './parameters.ts';
import { type JsonSchema, nullable, page, record, text, time, words } from './schema.ts';

export const organizationOperations: readonly Operation[] = [
  {
    id: 'listOrganizations',
    method: 'get',
    path: '/api/v0/organizations',
    tag: 'organizations',
    security: 'bearer',
    summary: 'List your organizations',
    query: paging,
    answer: { status: 200, schema: 'OrganizationList', description: 'One page, oldest first.' },
    refusals: ['invalid_cursor'],
  },
  {
    id: 'createOrganization',
    method: 'post',
    path: '/api/v0/organizations',
    tag: 'organizations',
    security: 'bearer',
    summary: 'Make an organization',
    description: 'The caller becomes its owner. The slug comes from the name; a taken one gets `-2`, `-3` and so on.',
    body: { schema: 'CreateOrganizationRequest' },
    answer: { status: 201, schema: 'Organization', description: 'The new organization.' },
    invalid: 'organization_invalid',
  },
  {
    id: 'getOrganization',
    method: 'get',
    path: '/api/v0/organizations/{org}',
    tag: 'organizations',
    internal: true,
    security: 'bearer',
    summary: 'Show an organization',
    answer: { status: 200, schema: 'Organization', description: 'The organization.' },
    refusals: ['organization_not_found'],
  },
];

export const organizationSchemas: Readonly<Record<string, JsonSchema>> = {
  Organization: record('Owns pipelines, members and a balance.', {
    slug: text('Its name in paths.'),
    name: text('Its name for people.'),
    url: nullable(text('Home page.')),
    created_at: time('When it was made.'),
  }),
  OrganizationList: page('Organization', 'Organizations the caller is a member of.'),
  CreateOrganizationRequest: record(
    'The organization to make.',
    { name: words('Its name for people.', 255) },
    { url: nullable(text('Home page.', { maxLength: 2048 })) },
  ),
};
