import type { FastifyInstance } from 'fastify';

const allowed = {
  'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
  'access-control-allow-headers': 'authorization, content-type, last-event-id, x-request-id',
  'access-control-max-age': '600',
};

/** Lets pages of these origins read the answers (`*` for any) and answers their preflight requests. */
export function addCors(app: FastifyInstance, origins: readonly string[]): void {
  if (origins.length === 0) return;
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('vary', 'origin');
    const { origin } = request.headers;
    if (!origin || !(origins.includes('*') || origins.includes(origin))) return;
    void reply.headers({
      'access-control-allow-origin': origin,
      'access-control-expose-headers': 'x-request-id, retry-after',
    });
    if (request.method === 'OPTIONS' && request.headers['access-control-request-method']) {
      await reply.headers(allowed).code(204).send();
    }
  });
}
