import { jobStates } from '@caisson/core/job';
import type { Operation } from './operation.ts';
import {
  anyObject,
  choice,
  flag,
  integer,
  type JsonSchema,
  listOf,
  nullable,
  own,
  record,
  ref,
  text,
  time,
  uuid,
} from './schema.ts';

const scope = ['organization_not_found', 'pipeline_not_found', 'build_not_found'] as const;
const jobs = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds/{number}/jobs';

export const jobOperations: readonly Operation[] = [
  {
    id: 'listJobs',
    method: 'get',
    path: jobs,
    tag: 'jobs',
    security: 'bearer',
    summary: 'List the jobs of a build',
    description:
      'With `known` the answer waits until it would be another one than that which had this `tag`: a way to follow a build without asking again and again.',
    query: {
      known: own(text('`tag` of an earlier answer; wait for another one, for 20 s at most.', { maxLength: 64 })),
    },
    answer: { status: 200, schema: 'JobList', description: 'All jobs; each comes after those it depends on.' },
    refusals: scope,
  },
  {
    id: 'getJob',
    method: 'get',
    path: `${jobs}/{job_id}`,
    tag: 'jobs',
    security: 'bearer',
    summary: 'Show a job',
    answer: { status: 200, schema: 'Job', description: 'The job.' },
    refusals: [...scope, 'job_not_found'],
  },
];

export const jobSchemas: Readonly<Record<string, JsonSchema>> = {
  Job: record('One command of a build, in a capsule of its own.', {
    id: uuid('Id of the job.'),
    step_key: nullable(text('Key of its step in the pipeline.')),
    name: nullable(text('Label of its step.')),
    state: choice('Where it stands.', jobStates),
    command: nullable(text('Shell text it runs.')),
    exit_code: nullable(integer('Exit code, once the command has ended by itself.')),
    soft_failed: flag('True when it failed and the build goes on all the same.'),
    soft_fail_policy: nullable(anyObject('When a failure counts as soft.')),
    retry_policy: nullable(anyObject('When it is tried again.')),
    error_code: nullable(text('Why it ended other than by its command, as a code.')),
    error_message: nullable(text('Why it ended other than by its command, in words.')),
    depends_on: listOf({ type: 'string', format: 'uuid' }, 'Ids of the jobs that must pass first.'),
    created_at: time('When the build was planned.'),
    started_at: nullable(time('When its command started.')),
    finished_at: nullable(time('When it ended.')),
  }),
  JobList: record('Jobs of a build.', {
    data: listOf(ref('Job'), 'The entries.'),
    tag: own(text('Differs whenever something about the build or its jobs has changed.')),
  }),
};
