import type { Socket } from 'node:net';
import { ciErrorEnvelope } from '@caisson/contracts/ci/error-envelope';
import { type ErrorCode, isErrorCode } from '@caisson/contracts/error-table';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { answerFailure } from './answer-failure.ts';
import { type Contract, methodsOf } from './contract.ts';
import { type Failure, failureOf } from './failure-of.ts';

/** Answers whatever was thrown in the envelope of the door. The cause of a failure of ours is logged and not told. */
export function makeCiErrorHandler(logger: Logger, docsBaseUrl: string | null) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const failure = isCutOff(error, request) ? cutOff : failureOf(error, invalidCodeOf(request));
    if (failure.code === 'internal_error' || failure.code === 'database_unavailable') {
      logger.error({ request_id: request.id, err: error }, 'a request failed');
    }
    return answerFailure(request, reply, { failure, docsBaseUrl });
  };
}

const cutOff: Failure = {
  code: 'invalid_request',
  message: 'the connection ended before the request was complete',
  details: {},
};

/** The client went away in the middle of a body: nobody reads the answer, and nothing of ours is wrong. */
function isCutOff(error: unknown, { raw }: FastifyRequest): boolean {
  return error instanceof Error && raw.errored === error;
}

/** The operation's own code for input that breaks its schema. */
function invalidCodeOf(request: FastifyRequest): ErrorCode {
  const own = (request.routeOptions.schema as Record<string, unknown> | undefined)?.['x-caisson-invalid'];
  return isErrorCode(own) ? own : 'invalid_request';
}

/** 405 with `allow` where only the method is wrong, 204 for OPTIONS, otherwise 404. */
export function answerUnknownRoute(
  request: FastifyRequest,
  reply: FastifyReply,
  { contract, docsBaseUrl }: { contract: Contract; docsBaseUrl: string | null },
): FastifyReply {
  const path = request.url.split('?', 1)[0] ?? '';
  const methods = methodsOf(contract, path);
  if (methods.length > 0) void reply.header('allow', allowOf(methods));
  if (methods.length > 0 && request.method === 'OPTIONS') return reply.code(204).send();
  const failure: Failure =
    methods.length > 0
      ? { code: 'method_not_allowed', message: `this path takes ${allowOf(methods)}`, details: {} }
      : { code: 'not_found', message: 'nothing is served at this method and path', details: {} };
  return answerFailure(request, reply, { failure, docsBaseUrl });
}

function allowOf(methods: readonly string[]): string {
  return [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ');
}

/** Answers bytes that are no HTTP, as far as the connection still takes an answer. */
export function answerBrokenHttp(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const requestId = uuidv7();
  const message = 'this is not a well-formed HTTP request';
  const { body } = ciErrorEnvelope({ code: 'invalid_request', message, requestId, docsBaseUrl: '/docs' });
  const text = JSON.stringify(body);
  socket.end(
    `HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\nx-request-id: ${requestId}\r\n` +
      `content-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  );
}
