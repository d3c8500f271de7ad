import type { Socket } from 'node:net';
import { AppError } from '@caisson/contracts/app-error';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { compileLate } from './compile-late.ts';
import { addCors } from './cors.ts';
import { readContract } from './doors/ci/contract.ts';
import { addErrorPages } from './doors/ci/error-pages.ts';
import { addLogStream } from './doors/ci/log-stream.ts';
import type { CiDeps } from './doors/ci/operation.ts';
import { addCiRoutes } from './doors/ci/routes.ts';
import { answerBrokenHttp, answerUnknownRoute, makeCiErrorHandler } from './doors/ci/unhappy-routes.ts';
import { addHealth } from './health.ts';
import { makeFailureLimit } from './identity/failure-limit.ts';
import { addMetrics, type Metrics } from './metrics.ts';
import { addRequestLog } from './request-log.ts';

interface AppDeps extends CiDeps {
  readonly settings: AppSettings;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** True from the moment the process has been asked to stop. */
  readonly isDraining: () => boolean;
}

export interface AppSettings {
  /** Origins whose pages may call the doors from a browser; `*` for any. */
  readonly corsOrigins: readonly string[];
  /** Whether `x-forwarded-*` headers are believed: only behind a proxy that sets them. */
  readonly trustProxy: boolean;
  /** Where the pages of docs/ are, for `doc_url`; null points to the short pages of this server. */
  readonly docsBaseUrl: string | null;
}

/** How long answers may still take once closing has begun. */
const lastAnswersMs = 5_000;
const bodyLimitBytes = 8_000_000;
const wellFormedId = /^[A-Za-z0-9._-]{8,128}$/;

/**
 * The HTTP server of a control plane, not listening yet: the CI door, health and metrics. `close` ends log streams, lets running
 * requests finish, and stops.
 */
export async function createApp(deps: AppDeps): Promise<FastifyInstance> {
  const { docsBaseUrl, trustProxy, corsOrigins } = deps.settings;
  const app = fastify({
    bodyLimit: bodyLimitBytes,
    trustProxy,
    genReqId: (raw) => acceptedId(raw.headers['x-request-id']) ?? uuidv7(),
    // While closing, requests on open connections are still answered as ever.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 1024 },
    schemaController: { compilersFactory: compileLate },
    ajv: { customOptions: { coerceTypes: false, strict: false } },
    clientErrorHandler: answerBrokenHttp,
    frameworkErrors: (error, request, reply) => makeCiErrorHandler(deps.logger, docsBaseUrl)(error, request, reply),
  });
  const contract = readContract();
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id);
  });
  endConnectionsOnClose(app);
  const requestLog = addRequestLog(app, deps);
  addCors(app, corsOrigins);
  app.setErrorHandler(makeCiErrorHandler(deps.logger, docsBaseUrl));
  app.setNotFoundHandler((request, reply) => answerUnknownRoute(request, reply, { contract, docsBaseUrl }));
  const onRefused = makeRefusalLimit(deps.metrics);
  await addCiRoutes(app, { contract, deps, onRefused, onCaller: requestLog.onCaller });
  const onOpenStreams = (change: 1 | -1) => deps.metrics.openLogStreams.inc(change);
  addLogStream(app, { deps, logger: deps.logger, onRefused, onOpenStreams });
  app.get('/api/v0/openapi.json', { config: { operation: 'openapi' } }, async () => contract.document);
  addErrorPages(app);
  addHealth(app, deps.isDraining);
  addMetrics(app, deps.metrics);
  return app;
}

/**
 * The answers still under way when closing begins end their connections; kept alive, those would hold up the end. So would one that
 * never carried a request, or an answer nobody reads.
 */
function endConnectionsOnClose(app: FastifyInstance): void {
  let isClosing = false;
  const unused = new Set<Socket>();
  app.server.on('connection', (socket: Socket) => {
    unused.add(socket);
    socket.once('close', () => unused.delete(socket));
  });
  app.server.on('request', ({ socket }) => unused.delete(socket));
  app.addHook('preClose', async () => {
    isClosing = true;
    for (const socket of unused) socket.destroy();
    setTimeout(() => app.server.closeAllConnections(), lastAnswersMs).unref();
  });
  app.addHook('onSend', async (_request, reply) => {
    if (isClosing) void reply.header('connection', 'close');
  });
}

function acceptedId(header: string | string[] | undefined): string | null {
  return typeof header === 'string' && wellFormedId.test(header) ? header : null;
}

/**
 * Slows whoever sends tokens that do not hold. A token that does is never refused for the sake of a neighbour behind the same
 * address: it costs one lookup.
 */
function makeRefusalLimit(metrics: Metrics): (request: FastifyRequest, reply: FastifyReply) => void {
  const limit = makeFailureLimit({ burst: 30, perSecond: 1, maxAddresses: 10_000, nowMs: () => performance.now() });
  return (request, reply) => {
    metrics.refusedTokens.inc();
    const retryAfterS = limit.record(request.ip);
    if (retryAfterS === 0) return;
    void reply.header('retry-after', String(retryAfterS));
    throw new AppError('rate_limited', `too many refused tokens from this address; try again in ${retryAfterS} s`);
  };
}
