import type { Operation } from './operation.ts';
import { flag, type JsonSchema, listOf, nullable, record, ref, text, time, wholeList } from './schema.ts';

export const repoOperations: readonly Operation[] = [
  {
    id: 'listOrgRepos',
    method: 'get',
    path: '/api/v0/organizations/{org}/repos',
    tag: 'repos',
    internal: true,
    security: 'bearer',
    summary: 'List repositories of all code hosts',
    description: 'A repository known to several providers is one entry.',
    answer: { status: 200, schema: 'RepoSummaryList', description: 'All of them, by full name.' },
    refusals: ['organization_not_found'],
  },
];

export const repoSchemas: Readonly<Record<string, JsonSchema>> = {
  RepoSummary: record('A repository, wherever it is hosted.', {
    full_name: text('`owner/name`.'),
    owner: text('The account it belongs to.'),
    name: text('Name without owner.'),
    clone_url: nullable(text('Clone URL.')),
    default_branch: nullable(text('Default branch.')),
    private: flag('Whether strangers cannot see it.'),
    last_synced_at: nullable(time('When it was last read from its host.')),
    registrations: listOf(ref('RepoRegistration'), 'Who told us of it.'),
  }),
  RepoRegistration: record('One way we know a repository.', {
    provider: text('`github` or `bitbucket`.'),
    account: text('The installation or workspace.'),
  }),
  RepoSummaryList: wholeList('RepoSummary', 'Repositories of an organization.'),
};
