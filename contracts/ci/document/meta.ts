import type { Operation } from './operation.ts';
import { choice, integer, type JsonSchema, own, record, text } from './schema.ts';

export const metaOperations: readonly Operation[] = [
  {
    id: 'ping',
    method: 'get',
    path: '/api/v0/ping',
    tag: 'meta',
    internal: true,
    security: 'none',
    summary: 'Is anybody there',
    answer: {
      status: 200,
      inline: record('A sign of life.', { status: choice('Always the same.', ['ok']) }),
      description: 'Yes.',
    },
  },
];

export const metaSchemas: Readonly<Record<string, JsonSchema>> = {
  Error: record('The envelope of every refusal. Further keys may appear.', {
    error: record(
      'What went wrong.',
      {
        type: text('Group of the code, for display.'),
        code: text('What happened; branch on this.'),
        message: text('For people: what happened and what to do.'),
        doc_url: text('Page about the code.'),
        request_id: text('Same as the `x-request-id` header.'),
      },
      {
        build_error_code: own(text('With `build_plan_rejected`: the `error_code` of the build.')),
        build_number: own(integer('With `build_plan_rejected`: the build that was left failed.')),
      },
    ),
  }),
};
