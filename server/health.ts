import type { FastifyInstance } from 'fastify';

/** `GET /healthz`: 200 `ok`, or 503 `draining` once the process is about to stop, so that nobody sends it more work. */
export function addHealth(app: FastifyInstance, isDraining: () => boolean): void {
  app.get('/healthz', { config: { operation: 'health' } }, async (_request, reply) => {
    const draining = isDraining();
    return reply
      .code(draining ? 503 : 200)
      .type('text/plain; charset=utf-8')
      .header('cache-control', 'no-store')
      .send(draining ? 'draining' : 'ok');
  });
}
