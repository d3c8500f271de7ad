import type { Operation } from './operation.ts';
import { flag, type JsonSchema, listOf, nullable, record, ref, text } from './schema.ts';

const workspaces = '/api/v0/organizations/{org}/bitbucket/workspaces';

export const bitbucketOperations: readonly Operation[] = [
  {
    id: 'bitbucketOAuthUrl',
    method: 'get',
    path: '/api/v0/organizations/{org}/bitbucket/oauth-url',
    tag: 'bitbucket',
    internal: true,
    security: 'bearer',
    summary: 'Where to consent at Bitbucket',
    answer: {
      status: 200,
      schema: 'BitbucketOAuthUrlResponse',
      description: 'The address, bound to organization and caller.',
    },
    refusals: ['organization_not_found', 'bitbucket_not_configured'],
  },
  {
    id: 'connectBitbucket',
    method: 'post',
    path: '/api/v0/integrations/bitbucket/connect',
    tag: 'bitbucket',
    internal: true,
    security: 'bearer',
    summary: 'Finish the consent at Bitbucket',
    body: { schema: 'ConnectBitbucketRequest' },
    answer: { status: 201, schema: 'ConnectBitbucketResponse', description: 'Connected.' },
    refusals: ['bitbucket_invalid_state', 'bitbucket_installation_bound_elsewhere', 'bitbucket_connect_failed'],
  },
  {
    id: 'listBitbucketWorkspaces',
    method: 'get',
    path: workspaces,
    tag: 'bitbucket',
    internal: true,
    security: 'bearer',
    summary: 'List connected Bitbucket workspaces',
    answer: { status: 200, schema: 'BitbucketWorkspaceList', description: 'All of them.' },
    refusals: ['organization_not_found'],
  },
  {
    id: 'listBitbucketRepos',
    method: 'get',
    path: `${workspaces}/{id}/repos`,
    tag: 'bitbucket',
    internal: true,
    security: 'bearer',
    summary: 'List the repositories of a workspace',
    answer: { status: 200, schema: 'BitbucketRepoList', description: 'All of them.' },
    refusals: ['organization_not_found', 'bitbucket_workspace_not_found'],
  },
  {
    id: 'disconnectBitbucket',
    method: 'delete',
    path: `${workspaces}/{id}`,
    tag: 'bitbucket',
    internal: true,
    security: 'bearer',
    summary: 'Disconnect a Bitbucket workspace',
    answer: { status: 204, description: 'Its events no longer start builds here.' },
    refusals: ['organization_not_found', 'bitbucket_workspace_not_found'],
  },
];

export const bitbucketSchemas: Readonly<Record<string, JsonSchema>> = {
  BitbucketOAuthUrlResponse: record('A consent page.', { url: text('Its address.') }),
  ConnectBitbucketRequest: record('What came back from the consent page.', {
    code: text('The one-time code.', { minLength: 1, maxLength: 4096 }),
    state: text('The state the address was made with.', { minLength: 1, maxLength: 4096 }),
  }),
  ConnectBitbucketResponse: record('What was connected.', {
    workspaces: listOf(ref('BitbucketWorkspace'), 'The workspaces.'),
    org: text('Slug of the organization.'),
  }),
  BitbucketWorkspace: record(
    'A workspace.',
    { slug: text('Its name in paths.') },
    { name: text('Its name for people.') },
  ),
  BitbucketWorkspaceList: record('Connected workspaces.', {
    workspaces: listOf(ref('BitbucketWorkspace'), 'The workspaces.'),
  }),
  BitbucketRepo: record(
    'A repository of a workspace.',
    {
      full_name: text('`workspace/name`.'),
      name: text('Name without workspace.'),
      default_branch: nullable(text('Default branch.')),
      clone_url: nullable(text('Clone URL.')),
    },
    { private: flag('Whether strangers cannot see it.') },
  ),
  BitbucketRepoList: record('Repositories of a workspace.', {
    repos: listOf(ref('BitbucketRepo'), 'The repositories.'),
  }),
};
