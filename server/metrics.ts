import type { FastifyInstance } from 'fastify';
import { sql } from 'kysely';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Database } from './store/database.ts';

/** What the doors count. Others may add their own to `registry`. */
export interface Metrics {
  readonly registry: Registry;
  /** Seconds per request, by `operation`, `method` and `status`. */
  readonly requestSeconds: Histogram<'operation' | 'method' | 'status'>;
  /** Refused tokens. */
  readonly refusedTokens: Counter;
  /** Log streams open now. */
  readonly openLogStreams: Gauge;
}

const stateCacheMs = 5_000;

/** A registry with the process's own metrics, the doors' and the unfinished builds and jobs by state. */
export function makeMetrics(db: Database): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  addStateGauges(registry, db);
  const registers = [registry];
  return {
    registry,
    requestSeconds: new Histogram({
      name: 'caisson_http_request_seconds',
      help: 'Duration of requests by operation',
      labelNames: ['operation', 'method', 'status'],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120],
      registers,
    }),
    refusedTokens: new Counter({
      name: 'caisson_refused_tokens_total',
      help: 'Requests with a token that does not hold',
      registers,
    }),
    openLogStreams: new Gauge({ name: 'caisson_open_log_streams', help: 'Log streams open now', registers }),
  };
}

interface StateCount {
  readonly kind: 'build' | 'job';
  readonly status: string;
  readonly count: number;
}

/** Counts what has not finished: an index holds just those builds, however many have ended. */
function addStateGauges(registry: Registry, db: Database): void {
  const read = cached(stateCacheMs, () => readStateCounts(db));
  for (const kind of ['build', 'job'] as const) {
    new Gauge({
      name: `caisson_${kind}s`,
      help: `Unfinished ${kind}s by state`,
      labelNames: ['state'],
      registers: [registry],
      async collect() {
        const counts = await read();
        this.reset();
        for (const { status, count } of counts.filter((row) => row.kind === kind)) this.set({ state: status }, count);
      },
    });
  }
}

async function readStateCounts(db: Database): Promise<readonly StateCount[]> {
  const { rows } = await sql<StateCount>`
    select 'build' as kind, status, count(*) as count from builds where finished_at is null group by status
    union all
    select 'job', jobs.status, count(*) from jobs join builds on builds.id = jobs.build_id
    where builds.finished_at is null and jobs.finished_at is null group by jobs.status`.execute(db);
  return rows;
}

/** The last result for `maxAgeMs`: anybody may ask for metrics, which must not become a load on the database. */
function cached<T>(maxAgeMs: number, read: () => Promise<T>): () => Promise<T> {
  let last: { readonly atMs: number; readonly value: Promise<T> } | undefined;
  return () => {
    const nowMs = performance.now();
    if (!last || nowMs - last.atMs >= maxAgeMs) {
      const value = read();
      last = { atMs: nowMs, value };
      value.catch(() => {
        last = undefined;
      });
    }
    return last.value;
  };
}

/** `GET /metrics` in the format of Prometheus. */
export function addMetrics(app: FastifyInstance, { registry }: Metrics): void {
  app.get('/metrics', { config: { operation: 'metrics' } }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
}
