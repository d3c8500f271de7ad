import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import { AppError } from '@caisson/contracts/app-error';
import { ciErrorEnvelope } from '@caisson/contracts/ci/error-envelope';
import { firstSeqToSend, heartbeatMs } from '@caisson/contracts/ci/log-stream';
import { authorize } from '@caisson/core/authorize';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { verifyBuildToken } from '../../identity/build-token.ts';
import { isUuid } from './is-uuid.ts';
import { type LogReads, logEvents, makeLogReads } from './log-events.ts';
import type { CiDeps } from './operation.ts';

interface LogStreamOptions {
  readonly deps: CiDeps;
  readonly logger: Logger;
  /** Told about every refused token; throws `rate_limited` when an address has failed too often. */
  readonly onRefused: (request: FastifyRequest, reply: FastifyReply) => void;
  /** +1 when a stream opens, -1 when it is over. */
  readonly onOpenStreams: (change: 1 | -1) => void;
}

/** How long a reader may take nothing at all before it is cut off. */
const stalledMs = 120_000;
const recheckMs = 2_000;
const historyBytes = 2 * 1024 * 1024;

interface LogQuery {
  readonly token?: unknown;
  readonly last_event_id?: unknown;
}

/** `GET /v0/jobs/{job_id}/logs?token=`: the output of a job as server-sent events. Streams end when the server closes. */
export function addLogStream(app: FastifyInstance, options: LogStreamOptions): void {
  const closing = new AbortController();
  const reads = makeLogReads(options.deps.db);
  setMaxListeners(0, closing.signal);
  app.addHook('preClose', async () => closing.abort());
  app.get<{ Params: { job_id: string }; Querystring: LogQuery }>(
    '/v0/jobs/:job_id/logs',
    { exposeHeadRoute: false, config: { operation: 'streamJobLogs' } },
    async (request, reply) => {
      try {
        await admit(options, request, reply);
      } catch (error) {
        if (error instanceof AppError) return refuse(request, reply, error);
        throw error;
      }
      return stream({ ...options, reads, closing: closing.signal }, request, reply);
    },
  );
}

type LogRequest = FastifyRequest<{ Params: { job_id: string }; Querystring: LogQuery }>;

async function admit({ deps, onRefused }: LogStreamOptions, request: LogRequest, reply: FastifyReply): Promise<void> {
  const token = textOf(request.query.token) ?? '';
  const buildId = verifyBuildToken(deps.secrets.logTokenSecret, token, deps.nowMs());
  if (!buildId) {
    onRefused(request, reply);
    throw new AppError('log_stream_unauthorized', 'the log token is missing, malformed or expired; ask for a new one');
  }
  const jobId = request.params.job_id;
  const job = isUuid(jobId)
    ? await deps.db
        .selectFrom('jobs')
        .select(['build_id', 'organization_id'])
        .where('id', '=', jobId)
        .executeTakeFirst()
    : undefined;
  const caller = { kind: 'log_reader', buildId } as const;
  const isAllowed =
    job && authorize(caller, 'log.view', { kind: 'build', organizationId: job.organization_id, buildId: job.build_id });
  if (isAllowed !== 'allowed') throw new AppError('log_stream_forbidden', 'the log token is not for this job');
}

function stream(
  { deps, logger, reads, closing, onOpenStreams }: LogStreamOptions & { reads: LogReads; closing: AbortSignal },
  request: LogRequest,
  reply: FastifyReply,
): FastifyReply {
  const gone = new AbortController();
  const end = () => gone.abort();
  closing.addEventListener('abort', end);
  onOpenStreams(1);
  reply.raw.once('close', () => {
    end();
    closing.removeEventListener('abort', end);
    onOpenStreams(-1);
  });
  reply.raw.setTimeout(stalledMs);
  const fromSeq = firstSeqToSend(textOf(request.headers['last-event-id']), textOf(request.query.last_event_id));
  const jobId = request.params.job_id;
  const frames = logEvents(
    { ...deps, reads },
    { jobId, fromSeq, signal: gone.signal, heartbeatMs, recheckMs, historyBytes },
  );
  const body = Readable.from(frames, { objectMode: false, highWaterMark: 64 * 1024 });
  body.on('error', (err) => logger.error({ request_id: request.id, err }, 'a log stream failed'));
  return reply
    .headers({ 'cache-control': 'no-cache', 'x-accel-buffering': 'no', connection: 'close' })
    .type('text/event-stream')
    .send(body);
}

/** Refusals here are bare, as readers of the wire know them. */
function refuse(request: FastifyRequest, reply: FastifyReply, { code, message }: AppError): FastifyReply {
  const { status } = ciErrorEnvelope({ code, message, requestId: request.id, docsBaseUrl: '' });
  return reply.code(status).send({ code, message });
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
