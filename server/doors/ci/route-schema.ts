import type { OpenApiDocument } from '@caisson/contracts/ci/document';
import type { FastifySchema } from 'fastify';

type Json = Readonly<Record<string, unknown>>;

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query';
  readonly required?: boolean;
  readonly schema: Json;
}

/** An operation of the document, its schemas still by reference. */
export interface DocumentOperation {
  readonly operationId: string;
  readonly security: readonly Json[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Json }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Json }>>;
  readonly 'x-caisson-invalid'?: string;
}

/** What Fastify checks of a request and writes of an answer; more than its own keys, since error codes depend on the operation. */
type RouteSchema = FastifySchema & { readonly operationId: string; readonly 'x-caisson-invalid'?: string };

/** Turns operations of a document into schemas of routes, every reference replaced by what it refers to. */
export function makeRouteSchemas({ components }: OpenApiDocument): (operation: DocumentOperation) => RouteSchema {
  const known = new Map<string, unknown>();
  const inline = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(inline);
    if (typeof value !== 'object' || value === null) return value;
    if ('$ref' in value) return named(String(value.$ref).replace('#/components/schemas/', ''));
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, inline(inner)]));
  };
  const named = (name: string): unknown => {
    if (!known.has(name)) {
      // Found unfinished by a schema that holds itself, which Fastify could not write.
      known.set(name, undefined);
      known.set(name, inline(components.schemas[name]));
    }
    const schema = known.get(name);
    if (schema === undefined) throw new Error(`schema ${name} is not there or holds itself`);
    return schema;
  };
  return (operation) => inline(schemaOf(operation)) as RouteSchema;
}

function schemaOf(operation: DocumentOperation): Json {
  const { operationId, parameters = [], requestBody, responses } = operation;
  const path = parameters.filter((parameter) => parameter.in === 'path');
  const query = parameters.filter((parameter) => parameter.in === 'query');
  // Bytes are checked by their handler.
  const body = requestBody?.content['application/json']?.schema;
  const response = Object.entries(responses).flatMap(([status, { content }]) =>
    content ? [[status, { content }]] : [],
  );
  return {
    operationId,
    'x-caisson-invalid': operation['x-caisson-invalid'],
    ...(path.length === 0 ? {} : { params: objectOf(path) }),
    ...(query.length === 0 ? {} : { querystring: objectOf(query) }),
    ...(body === undefined ? {} : { body }),
    response: Object.fromEntries(response),
  };
}

function objectOf(parameters: readonly Parameter[]): Json {
  return {
    type: 'object',
    properties: Object.fromEntries(parameters.map(({ name, schema }) => [name, schema])),
    required: parameters.filter(({ required }) => required).map(({ name }) => name),
  };
}
