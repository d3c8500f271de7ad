import { ciErrorEnvelope } from '@caisson/contracts/ci/error-envelope';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Failure } from './failure-of.ts';

/** Ends a request with the envelope of the door. `docsBaseUrl` null points to the pages this server has itself. */
export function answerFailure(
  request: FastifyRequest,
  reply: FastifyReply,
  { failure, docsBaseUrl }: { failure: Failure; docsBaseUrl: string | null },
): FastifyReply {
  const { code, message, details } = failure;
  const base = docsBaseUrl ?? `${request.protocol}://${request.host}/docs`;
  const { status, body } = ciErrorEnvelope({ code, message, requestId: request.id, docsBaseUrl: base });
  // Written out here: the schema of the answer would drop further keys.
  const text = JSON.stringify({ error: { ...body.error, ...details } });
  if (hasUnreadBody(request)) void reply.header('connection', 'close');
  // Also where a request failed before any hook ran.
  return reply.code(status).header('x-request-id', request.id).type('application/json; charset=utf-8').send(text);
}

/** Reading the rest of a refused upload just to keep the connection would let anybody keep the server busy. */
function hasUnreadBody({ raw }: FastifyRequest): boolean {
  const hasBody = raw.headers['transfer-encoding'] !== undefined || Number(raw.headers['content-length'] ?? 0) > 0;
  return hasBody && !raw.readableEnded;
}
