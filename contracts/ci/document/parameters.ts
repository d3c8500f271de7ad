import type { Operation } from './operation.ts';
import { integer, type JsonSchema, type Properties, text } from './schema.ts';

/** Largest value of the column a number in a path is compared with; beyond it the answer is 400, not a failing query. */
const largestInt4 = 2_147_483_647;

/** Path parameters by name. Ids are plain text on purpose: one that is no uuid names nothing, which is a 404. */
const pathParameters: Properties = {
  org: text('Slug of the organization.'),
  pipeline: text('Slug of the pipeline.'),
  number: integer('Number of the build within its pipeline.', { minimum: -largestInt4, maximum: largestInt4 }),
  job_id: text('Id of the job.'),
  build_uuid: text('Id under which capsules know the build.'),
  user_id: text('Id of the member.'),
  id: text('Id of the entry.'),
  uuid: text('Id of the entry.'),
};

/** `limit` and `cursor` of a paged list. A `limit` that is no number counts as absent, so the schema takes any text. */
export const paging: Properties = {
  limit: {
    description: 'Entries per page: 50 unless given, never under 1 or over 100.',
    anyOf: [{ type: 'integer' }, { type: 'string' }],
  },
  cursor: text('`next_cursor` of the page before; absent for the first page.', { maxLength: 1024 }),
};

/** The id GitHub gives an installation. */
export const githubInstallationId: Properties = {
  id: integer('Number GitHub gave the installation.', { minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
};

export function parametersOf(operation: Operation): readonly JsonSchema[] {
  const names = [...operation.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '');
  const inPath = names.map((name) => {
    const schema = operation.parameters?.[name] ?? pathParameters[name];
    if (!schema) throw new Error(`${operation.id}: no schema for the path parameter ${name}`);
    return parameter({ name, in: 'path', required: true }, schema);
  });
  return [...inPath, ...inQuery(operation.requiredQuery ?? {}, true), ...inQuery(operation.query ?? {}, false)];
}

function inQuery(properties: Properties, required: boolean): readonly JsonSchema[] {
  return Object.entries(properties).map(([name, schema]) => parameter({ name, in: 'query', required }, schema));
}

function parameter(head: JsonSchema, { description, ...schema }: JsonSchema): JsonSchema {
  return { ...head, description, schema };
}
