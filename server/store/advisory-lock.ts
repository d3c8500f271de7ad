import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

const retryMs = 1_000;
const connectTimeoutMs = 10_000;
const signOfLifeMs = 1_000;
/** Well within a lease, so that the next holder still renews what the last one cared for. */
const silentMs = 5_000;

export interface AdvisoryLock {
  readonly connectionString: string;
  readonly name: string;
  readonly signal: AbortSignal;
  /** Told why the lock could not be sought or `work` failed; it is tried again in any case. */
  onError(error: unknown): void;
}

/**
 * Runs `work` while this process holds a lock on `name` that no other control plane on this database can hold, again and again until
 * `signal` aborts. The lock belongs to a connection: when that breaks, `work`'s own signal aborts, and the lock is sought anew. The
 * holder shows on it that it is alive; whoever waits ends the connection of one that is not (frozen, or cut off from the database).
 */
export async function withAdvisoryLock(
  { connectionString, name, signal, onError }: AdvisoryLock,
  work: (held: AbortSignal) => Promise<void>,
): Promise<void> {
  const key = keyOf(name);
  const watchHolder = makeHolderWatch(key);
  while (!signal.aborted) {
    try {
      await holdOnce({ connectionString, signal }, async (client, held) => {
        const { rows } = await client.query<{ locked: boolean }>('select pg_try_advisory_lock($1) as locked', [key]);
        if (!rows[0]?.locked) return watchHolder(client);
        const showing = setInterval(() => client.query('select').catch(() => {}), signOfLifeMs);
        try {
          await work(held);
        } finally {
          clearInterval(showing);
        }
      });
    } catch (error) {
      if (!signal.aborted) onError(error);
    }
    await delay(retryMs, undefined, { signal }).catch(() => {});
  }
}

/**
 * Ends the connection that holds the lock once it was seen without a change for too long. What passes between two looks is measured
 * by this process, so that a clock that is set changes nothing.
 */
function makeHolderWatch(key: string): (client: pg.Client) => Promise<void> {
  let seen = { last: '', sinceMs: 0 };
  return async (client) => {
    const { rows } = await client.query<{ pid: number; last: string }>(
      `select pid, pid || ' ' || backend_start || ' ' || state_change as last
       from pg_locks join pg_stat_activity using (pid)
       where locktype = 'advisory' and granted and objsubid = 1 and database = (select oid from pg_database where datname = current_database())
         and (classid::bigint << 32 | objid::bigint) = $1`,
      [key],
    );
    const holder = rows[0];
    if (holder === undefined || holder.last !== seen.last) {
      seen = { last: holder?.last ?? '', sinceMs: performance.now() };
    } else if (performance.now() - seen.sinceMs > silentMs) {
      await client.query('select pg_terminate_backend($1)', [holder.pid]);
    }
  };
}

async function holdOnce(
  { connectionString, signal }: { connectionString: string; signal: AbortSignal },
  use: (client: pg.Client, held: AbortSignal) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({
    connectionString,
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    // Tells an operator, and the tests, who holds what.
    application_name: `caisson-lock ${process.pid}`,
  });
  const lost = new AbortController();
  client.on('error', () => lost.abort());
  client.on('end', () => lost.abort());
  try {
    await client.connect();
    await use(client, AbortSignal.any([signal, lost.signal]));
  } finally {
    await client.end().catch(() => {});
  }
}

/** PostgreSQL's advisory locks are numbers: the first 63 bits of the name's hash. */
function keyOf(name: string): string {
  return createHash('sha256').update(name).digest().readBigInt64BE(0).toString();
}
