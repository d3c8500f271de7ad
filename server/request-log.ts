import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { CiCaller } from './doors/ci/operation.ts';
import { operationIdOf } from './doors/ci/routes.ts';
import type { Metrics } from './metrics.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Name of a route that is no operation of a contract, for logs and metrics. */
    operation?: string;
  }
}

interface RequestLog {
  readonly onCaller: (request: FastifyRequest, caller: CiCaller) => void;
}

/**
 * Writes one line and one observation per request. The line is made of chosen fields (no headers, no query), so that no token can
 * get into it.
 */
export function addRequestLog(
  app: FastifyInstance,
  { logger, metrics }: { logger: Logger; metrics: Metrics },
): RequestLog {
  const users = new WeakMap<FastifyRequest, string>();
  const note = (request: FastifyRequest, reply: FastifyReply) => {
    const operation = operationIdOf(request) ?? request.routeOptions.config.operation ?? 'unknown';
    const { method } = request;
    const status = reply.statusCode;
    metrics.requestSeconds.observe({ operation, method, status }, reply.elapsedTime / 1000);
    logger.info(
      {
        request_id: request.id,
        operation,
        method,
        path: request.url.split('?', 1)[0],
        status,
        duration_ms: Math.round(reply.elapsedTime * 10) / 10,
        user_id: users.get(request),
        cut_off: reply.raw.writableFinished ? undefined : true,
      },
      'request',
    );
  };
  // `close` also comes when the client goes away, which no hook of the framework tells.
  app.addHook('onRequest', async (request, reply) => {
    reply.raw.once('close', () => note(request, reply));
  });
  return {
    onCaller(request, caller) {
      if ('userId' in caller) users.set(request, caller.userId);
    },
  };
}
