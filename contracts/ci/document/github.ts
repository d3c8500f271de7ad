import type { Operation } from './operation.ts';
import { githubInstallationId } from './parameters.ts';
import { flag, integer, type JsonSchema, nullable, record, text, time, wholeList } from './schema.ts';

const installations = '/api/v0/organizations/{org}/github/installations';

export const githubOperations: readonly Operation[] = [
  {
    id: 'listGithubInstallations',
    method: 'get',
    path: installations,
    tag: 'github',
    internal: true,
    security: 'bearer',
    summary: 'List connected GitHub installations',
    answer: { status: 200, schema: 'GithubInstallationList', description: 'All of them.' },
    refusals: ['organization_not_found'],
  },
  {
    id: 'connectGithubInstallation',
    method: 'post',
    path: installations,
    tag: 'github',
    internal: true,
    security: 'bearer',
    summary: 'Connect a GitHub installation',
    body: { schema: 'ConnectInstallationRequest' },
    answer: { status: 201, schema: 'GithubInstallation', description: 'Connected.' },
    refusals: [
      'organization_not_found',
      'github_installation_bound_elsewhere',
      'github_not_configured',
      'github_sync_failed',
    ],
    invalid: 'github_installation_id_invalid',
  },
  {
    id: 'disconnectGithubInstallation',
    method: 'delete',
    path: `${installations}/{id}`,
    tag: 'github',
    internal: true,
    security: 'bearer',
    summary: 'Disconnect a GitHub installation',
    parameters: githubInstallationId,
    answer: { status: 204, description: 'Its events no longer start builds here.' },
    refusals: ['organization_not_found', 'github_installation_not_found'],
  },
  {
    id: 'listGithubInstallationRepos',
    method: 'get',
    path: `${installations}/{id}/repos`,
    tag: 'github',
    internal: true,
    security: 'bearer',
    summary: 'List the repositories of an installation',
    parameters: githubInstallationId,
    answer: { status: 200, schema: 'GithubRepoList', description: 'As of the last sync.' },
    refusals: ['organization_not_found', 'github_installation_not_found'],
  },
  {
    id: 'syncGithubInstallation',
    method: 'post',
    path: `${installations}/{id}/sync`,
    tag: 'github',
    internal: true,
    security: 'bearer',
    summary: 'Read the repositories from GitHub again',
    parameters: githubInstallationId,
    answer: { status: 200, schema: 'GithubInstallation', description: 'Synced.' },
    refusals: [
      'organization_not_found',
      'github_installation_not_found',
      'github_not_configured',
      'github_sync_failed',
    ],
  },
];

export const githubSchemas: Readonly<Record<string, JsonSchema>> = {
  GithubInstallation: record('Our GitHub app in one GitHub account.', {
    id: integer('Our number.'),
    installation_id: integer('Number GitHub gave it.'),
    account_login: text('The account.'),
    account_type: text('`User` or `Organization`.'),
    created_at: time('When it was connected.'),
    updated_at: time('When it changed last.'),
  }),
  GithubInstallationList: wholeList('GithubInstallation', 'Connected installations.'),
  ConnectInstallationRequest: record('Which installation.', {
    installation_id: integer('Number GitHub gave it.', { minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  }),
  GithubRepo: record('A repository our app may read.', {
    id: integer('Our number.'),
    installation_id: integer('Our number of its installation.'),
    gh_repo_id: integer('Number GitHub gave it.'),
    full_name: text('`owner/name`.'),
    name: text('Name without owner.'),
    owner: text('The account it belongs to.'),
    clone_url: text('Clone URL.'),
    default_branch: text('Default branch.'),
    private: flag('Whether strangers cannot see it.'),
    last_synced_at: nullable(time('When it was last read from GitHub.')),
  }),
  GithubRepoList: wholeList('GithubRepo', 'Repositories of an installation.'),
};
