import type { ErrorRow } from '@caisson/contracts/error-row';
import { errorTable } from '@caisson/contracts/error-table';
import type { FastifyInstance } from 'fastify';

/** `GET /docs/errors/{code}`: what `doc_url` points to on an installation without a documentation site. */
export function addErrorPages(app: FastifyInstance): void {
  app.get<{ Params: { code: string } }>(
    '/docs/errors/:code',
    { config: { operation: 'errorPage' } },
    async (request, reply) => {
      const { code } = request.params;
      const row = Object.entries<ErrorRow>(errorTable).find(([known]) => known === code)?.[1];
      if (!row) return reply.callNotFound();
      return reply.type('text/plain; charset=utf-8').send(`${code}\n\n${row.help}\n`);
    },
  );
}
