import type { Operation } from './operation.ts';
import { paging } from './parameters.ts';
import { choice, flag, type JsonSchema, nullable, own, page, record, text, time, words } from './schema.ts';

export const pipelineOperations: readonly Operation[] = [
  {
    id: 'listPipelines',
    method: 'get',
    path: '/api/v0/organizations/{org}/pipelines',
    tag: 'pipelines',
    security: 'bearer',
    summary: 'List pipelines',
    query: paging,
    answer: { status: 200, schema: 'PipelineList', description: 'One page, oldest first, without archived ones.' },
    refusals: ['organization_not_found', 'invalid_cursor'],
  },
  {
    id: 'createPipeline',
    method: 'post',
    path: '/api/v0/organizations/{org}/pipelines',
    tag: 'pipelines',
    security: 'bearer',
    summary: 'Make a pipeline',
    description: 'The slug is the name in lower case, everything but letters and digits turned into `-`.',
    body: { schema: 'CreatePipelineRequest' },
    answer: { status: 201, schema: 'Pipeline', description: 'The new pipeline.' },
    refusals: ['organization_not_found', 'pipeline_slug_taken'],
    invalid: 'pipeline_invalid',
  },
  {
    id: 'getPipeline',
    method: 'get',
    path: '/api/v0/organizations/{org}/pipelines/{pipeline}',
    tag: 'pipelines',
    security: 'bearer',
    summary: 'Show a pipeline',
    answer: { status: 200, schema: 'Pipeline', description: 'The pipeline, an archived one too.' },
    refusals: ['organization_not_found', 'pipeline_not_found'],
  },
];

export const pipelineSchemas: Readonly<Record<string, JsonSchema>> = {
  Pipeline: record('What is built, from where.', {
    slug: text('Its name in paths.'),
    name: text('Its name for people.'),
    repository: text('Clone URL.'),
    default_branch: text('Branch built unless another is named.'),
    visibility: choice('Who may see it.', ['private', 'public']),
    allow_manual: flag('Whether builds may be started by hand or by API.'),
    created_at: time('When it was made.'),
    repo_name: nullable(text('`owner/name` of the repository.')),
    description: nullable(text('What it is for.')),
  }),
  PipelineList: page('Pipeline', 'Pipelines of an organization.'),
  CreatePipelineRequest: record(
    'The pipeline to make.',
    {
      name: words('Its name for people.', 255),
      repository: words('Clone URL.', 2048),
      default_branch: words('Branch built unless another is named.', 1024),
    },
    {
      description: nullable(text('What it is for.', { maxLength: 4096 })),
      repo_name: nullable(text('`owner/name`; read from the clone URL when absent.', { maxLength: 255 })),
      source_slug: own(
        nullable(text('Slug of the pipeline inside the source; the same as the slug when absent.', { maxLength: 255 })),
      ),
    },
  ),
};
