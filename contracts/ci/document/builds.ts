import { buildStates } from '@caisson/core/build';
import type { Operation } from './operation.ts';
import { paging } from './parameters.ts';
import {
  choice,
  flag,
  integer,
  type JsonSchema,
  nullable,
  own,
  type Properties,
  page,
  record,
  text,
  time,
  words,
} from './schema.ts';

const scope = ['organization_not_found', 'pipeline_not_found'] as const;
const creation = ['billing_insufficient_balance', 'pipeline_manual_disabled', ...scope, 'build_plan_rejected'] as const;
const builds = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds';

export const buildOperations: readonly Operation[] = [
  {
    id: 'listBuilds',
    method: 'get',
    path: builds,
    tag: 'builds',
    security: 'bearer',
    summary: 'List builds',
    query: paging,
    answer: { status: 200, schema: 'BuildList', description: 'One page, newest first.' },
    refusals: [...scope, 'invalid_cursor'],
  },
  {
    id: 'createBuild',
    method: 'post',
    path: builds,
    tag: 'builds',
    security: 'bearer',
    summary: 'Start a build',
    description:
      'With `pipeline_ir` the jobs come from that document; without it the pipeline is rendered from the source in a capsule. ' +
      'The source is one of `source_digest`, `source_b64` and `source_url`, the first one present. ' +
      'A pipeline that cannot be rendered or planned leaves a failed build and answers `build_plan_rejected`.',
    body: { schema: 'CreateBuildRequest' },
    answer: { status: 201, schema: 'Build', description: 'The build.' },
    refusals: creation,
    invalid: 'build_invalid',
  },
  {
    id: 'createBuildBySource',
    method: 'post',
    path: '/api/v0/organizations/{org}/builds',
    tag: 'builds',
    security: 'bearer',
    summary: 'Start a build, naming the pipeline by its repository',
    description:
      'Finds the pipeline by `repo_name` (letter case does not matter) and `source_slug`, then does what `createBuild` does.',
    body: { schema: 'CreateRepoBuildRequest' },
    answer: { status: 201, schema: 'Build', description: 'The build.' },
    refusals: creation,
    invalid: 'build_invalid',
  },
  {
    id: 'getBuild',
    method: 'get',
    path: `${builds}/{number}`,
    tag: 'builds',
    security: 'bearer',
    summary: 'Show a build',
    answer: { status: 200, schema: 'Build', description: 'The build.' },
    refusals: [...scope, 'build_not_found'],
  },
  {
    id: 'cancelBuild',
    method: 'put',
    path: `${builds}/{number}/cancel`,
    tag: 'builds',
    security: 'bearer',
    summary: 'Cancel a build',
    description: 'Running jobs are stopped, waiting ones never start. On a build that has ended nothing changes.',
    answer: { status: 200, schema: 'Build', description: 'The build as it is now.' },
    refusals: [...scope, 'build_not_found'],
  },
  {
    id: 'getBuildLogToken',
    method: 'get',
    path: `${builds}/{number}/log-token`,
    tag: 'builds',
    security: 'bearer',
    summary: "Get a token for the log streams of the build's jobs",
    description: 'The streams are at `/v0/jobs/{job_id}/logs?token=…` as server-sent events.',
    answer: { status: 200, schema: 'LogTokenResponse', description: 'A token that holds for an hour.' },
    refusals: [...scope, 'build_not_found'],
  },
  {
    id: 'getBuildSource',
    method: 'get',
    path: '/api/v0/internal/builds/{build_uuid}/source.tar.gz',
    tag: 'builds',
    internal: true,
    security: 'runnerToken',
    summary: 'Download the source of a build',
    answer: { status: 200, bytes: 'application/gzip', description: 'A gzipped tar.' },
    refusals: ['source_not_found'],
  },
  {
    id: 'uploadSource',
    method: 'put',
    path: '/api/v0/organizations/{org}/sources',
    tag: 'builds',
    own: true,
    security: 'bearer',
    summary: 'Upload a source archive',
    description: 'Streamed to disk, so its size is bound only by the configuration. A build then names it by digest.',
    body: { bytes: ['application/gzip', 'application/octet-stream'], description: 'A gzipped tar.' },
    answer: { status: 201, schema: 'SourceUploadResponse', description: 'The archive is stored.' },
    refusals: ['organization_not_found', 'payload_too_large', 'unsupported_media_type', 'source_invalid'],
  },
];

const requiredFields: Properties = {
  branch: words('Branch the source is from.', 1024),
  commit: words('Commit the source is at; zeros when there is none.', 255),
};

const optionalFields: Properties = {
  message: nullable(text('First line of the commit, or what the build is for.', { maxLength: 65_536 })),
  env: nullable({
    type: 'object',
    description: 'Environment for every job, over that of the pipeline and its steps.',
    additionalProperties: { type: 'string', maxLength: 131_072 },
    maxProperties: 1000,
  }),
  source: nullable(text('What started it: `webhook`, `ui`, `api` (when absent), `trigger_job` or `schedule`.')),
  pipeline_ir: nullable(text('The pipeline as JSON text; absent or blank to render it from the source.')),
  source_b64: nullable(text('The source, a gzipped tar, in base64. For a large one see `uploadSource`.')),
  source_digest: own(
    nullable(
      text('Digest of a source uploaded before with `uploadSource`: sha256 in lower-case hex.', {
        pattern: '^[0-9a-f]{64}$',
      }),
    ),
  ),
  stop_on_failure: own(flag('Start nothing more once a job has failed; false unless given.')),
};

export const buildSchemas: Readonly<Record<string, JsonSchema>> = {
  Build: record('One run of a pipeline.', {
    number: integer('Counts up within the pipeline.'),
    state: choice('Where it stands.', buildStates),
    pipeline_slug: text('Slug of its pipeline.'),
    created_at: time('When it was asked for.'),
    source: nullable(text('What started it.')),
    branch: nullable(text('Branch the source is from.')),
    commit: nullable(text('Commit the source is at.')),
    message: nullable(text('First line of the commit, or what the build is for.')),
    error_code: nullable(text('Why it could not run, as a code.')),
    error_message: nullable(text('Why it could not run, in words.')),
    scheduled_at: nullable(time('When its jobs were queued.')),
    started_at: nullable(time('When its first job started.')),
    finished_at: nullable(time('When its last job ended.')),
  }),
  BuildList: page('Build', 'Builds of a pipeline.'),
  CreateBuildRequest: record('The build to start.', requiredFields, {
    ...optionalFields,
    source_url: nullable(text('Where to download the source.', { maxLength: 2048 })),
    source_sha256: nullable(text('What the download must hash to: sha256 in hex.', { maxLength: 64 })),
    source_slug: own(
      nullable(
        text('Which pipeline of the source to render; absent for the one with the same slug.', { maxLength: 255 }),
      ),
    ),
  }),
  CreateRepoBuildRequest: record(
    'The build to start, and of which pipeline.',
    {
      repo_name: text('`owner/name` of the repository.', { maxLength: 255 }),
      source_slug: text('Slug of the pipeline inside the source.', { maxLength: 255 }),
      ...requiredFields,
    },
    optionalFields,
  ),
  LogTokenResponse: record('Access to the logs of a build.', {
    token: text('Put it in the `token` query parameter.'),
    expires_at: time('When to ask for another.'),
  }),
  SourceUploadResponse: own(
    record('A stored source archive.', {
      digest: text('sha256 in lower-case hex.'),
      size_bytes: integer('Size in bytes.'),
    }),
  ),
};
