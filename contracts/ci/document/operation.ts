import { type ErrorCode, errorTable } from '../../error-table.ts';
import { parametersOf } from './parameters.ts';
import { type JsonSchema, type Properties, ref } from './schema.ts';

type HttpMethod = 'get' | 'post' | 'put' | 'patch' | 'delete';
export type Security = 'bearer' | 'runnerToken' | 'none';

/** One operation in short form; `openApiOperation` writes it out. */
export interface Operation {
  readonly id: string;
  readonly method: HttpMethod;
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly security: Security;
  /** Left out of the public contract of the wire (`x-internal`). */
  readonly internal?: true;
  /** Not part of the wire that other clients know (`x-caisson`). */
  readonly own?: true;
  /** Schema of a path parameter where the usual one does not fit. */
  readonly parameters?: Properties;
  readonly query?: Properties;
  readonly requiredQuery?: Properties;
  readonly body?: RequestBody;
  readonly answer: Answer;
  /** What it refuses with, besides what every operation may answer. */
  readonly refusals?: readonly ErrorCode[];
  /** Code of a request that breaks the schema, where it is not `invalid_request`. */
  readonly invalid?: ErrorCode;
}

type RequestBody =
  | { readonly schema: string; readonly optional?: true }
  /** Bytes in one of these content types. */
  | { readonly bytes: readonly string[]; readonly description: string };

export type Answer =
  | { readonly status: 200 | 201; readonly schema: string; readonly description: string }
  | { readonly status: 200; readonly inline: JsonSchema; readonly description: string }
  | { readonly status: 200; readonly bytes: string; readonly description: string }
  | { readonly status: 204; readonly description: string };

const bytesAnswered = { type: 'string', format: 'binary' };
/** Without a type: the server gets such a body as a stream, which no type of JSON Schema lets pass. */
const bytesTaken = { format: 'binary' };

export function openApiOperation(operation: Operation): JsonSchema {
  const parameters = parametersOf(operation);
  return {
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    ...(operation.description ? { description: operation.description } : {}),
    ...(operation.internal ? { 'x-internal': true } : {}),
    ...(operation.own ? { 'x-caisson': true } : {}),
    ...(operation.invalid ? { 'x-caisson-invalid': operation.invalid } : {}),
    ...(operation.security === 'none' ? { security: [] } : { security: [{ [operation.security]: [] }] }),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(operation.body ? { requestBody: requestBody(operation.body) } : {}),
    responses: { ...successOf(operation.answer), ...refusalsOf(operation), default: failure('Any other refusal.') },
  };
}

function requestBody(body: RequestBody): JsonSchema {
  if ('schema' in body) return { required: !body.optional, content: json(ref(body.schema)) };
  const content = Object.fromEntries(body.bytes.map((type) => [type, { schema: bytesTaken }]));
  return { required: true, description: body.description, content };
}

function successOf(answer: Answer): JsonSchema {
  return { [answer.status]: { description: answer.description, ...successContent(answer) } };
}

function successContent(answer: Answer): JsonSchema {
  if ('schema' in answer) return { content: json(ref(answer.schema)) };
  if ('inline' in answer) return { content: json(answer.inline) };
  if ('bytes' in answer) return { content: { [answer.bytes]: { schema: bytesAnswered } } };
  return {};
}

function refusalsOf(operation: Operation): JsonSchema {
  const codes = new Set<ErrorCode>(operation.refusals);
  if (operation.security !== 'none') codes.add('unauthorized');
  if (operation.invalid) codes.add(operation.invalid);
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codes) {
    const status = statusOf(code);
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const sorted = [...byStatus].sort(([a], [b]) => a - b);
  return Object.fromEntries(
    sorted.map(([status, list]) => [status, failure(list.map((code) => `\`${code}\``).join(', '))]),
  );
}

function statusOf(code: ErrorCode): number {
  const row = errorTable[code];
  if (!('ci' in row) || row.ci === undefined) throw new Error(`${code} has no status at the CI door`);
  return row.ci.status;
}

function failure(description: string): JsonSchema {
  return { description, content: json(ref('Error')) };
}

function json(schema: JsonSchema): JsonSchema {
  return { 'application/json': { schema } };
}
