import { AppError, hasCode } from '@caisson/contracts/app-error';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { callerOf } from './caller.ts';
import { cleanInput } from './clean-input.ts';
import type { Contract, ContractOperation } from './contract.ts';
import { type AnyHandler, handlers } from './handlers.ts';
import type { CiCaller, CiDeps } from './operation.ts';
import { makeRouteSchemas } from './route-schema.ts';

interface CiRoutesOptions {
  readonly contract: Contract;
  readonly deps: CiDeps;
  /** Told about every refused token; throws `rate_limited` when an address has failed too often. */
  readonly onRefused: (request: FastifyRequest, reply: FastifyReply) => void;
  /** Told about who a request comes from, for its line in the log. */
  readonly onCaller: (request: FastifyRequest, caller: CiCaller) => void;
}

/** Adds a route for every operation of the document; those without a handler answer `not_implemented`. */
export async function addCiRoutes(app: FastifyInstance, options: CiRoutesOptions): Promise<void> {
  await app.register(async (scope) => {
    scope.addHook('preValidation', cleanInput);
    addBodyParsers(scope);
    const schemaOf = makeRouteSchemas(options.contract.document);
    for (const operation of options.contract.operations.values()) {
      const { method, path, source } = operation;
      const url = path.replaceAll(/\{(\w+)\}/g, ':$1');
      scope.route({ method, url, schema: schemaOf(source), ...routeOf(options, operation) });
    }
  });
}

function routeOf(options: CiRoutesOptions, operation: ContractOperation): Pick<RouteOptions, 'handler' | 'onRequest'> {
  const callers = new WeakMap<FastifyRequest, CiCaller>();
  return {
    // Before the body is read: a stranger's is not worth parsing.
    onRequest: async (request, reply) => {
      const caller = await callerOf(options.deps, operation.security, request.headers.authorization).catch((error) => {
        // A database that is away refuses nobody.
        if (hasCode(error, 'unauthorized')) options.onRefused(request, reply);
        throw error;
      });
      callers.set(request, caller);
      options.onCaller(request, caller);
    },
    handler: async (request, reply) => {
      const caller = callers.get(request) ?? { kind: 'anonymous' };
      return perform({ ...options, operation, caller }, request, reply);
    },
  };
}

async function perform(
  { deps, operation, caller }: { deps: CiDeps; operation: ContractOperation; caller: CiCaller },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const handler: AnyHandler | undefined = handlers.get(operation.id);
  if (!handler) throw new AppError('not_implemented', `${operation.id} is not built yet`);
  const input = { path: request.params, query: request.query, body: request.body };
  const output = await handler(deps, caller, input as never);
  if (operation.contentType) void reply.type(operation.contentType);
  return reply.code(operation.status).send(output);
}

function addBodyParsers(scope: FastifyInstance): void {
  scope.removeContentTypeParser(['text/plain', 'application/json']);
  scope.addContentTypeParser(['application/gzip', 'application/octet-stream'], (request, payload, done) => {
    if (operationIdOf(request) === 'uploadSource') done(null, payload);
    else done(new AppError('unsupported_media_type', 'this operation takes application/json'));
  });
  const parseJson = scope.getDefaultJsonParser('error', 'error');
  scope.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, text, done) => {
    // Some clients name the type on every request, also where there is nothing to send.
    if (text === '' && !request.routeOptions.schema?.body) done(null, undefined);
    else void parseJson(request, text, done);
  });
}

/** The operation a request was routed to. */
export function operationIdOf(request: FastifyRequest): string | null {
  const { operationId } = (request.routeOptions.schema ?? {}) as { operationId?: unknown };
  return typeof operationId === 'string' ? operationId : null;
}
