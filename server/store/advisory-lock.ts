import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

const retryMs = 1_000;
const connectTimeoutMs = 10_000;

export interface AdvisoryLock {
  readonly connectionString: string;
  readonly name: string;
  readonly signal: AbortSignal;
  /** Told why the lock could not be sought or `work` failed; it is tried again in any case. */
  onError(error: unknown): void;
}

/**
 * Runs `work` while this process holds a lock on `name` that no other control plane on this database can hold, again and again until
 * `signal` aborts. The lock belongs to a connection: when that breaks, `work`'s own signal aborts, and the lock is sought anew.
 */
export async function withAdvisoryLock(
  { connectionString, name, signal, onError }: AdvisoryLock,
  work: (held: AbortSignal) => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await holdOnce({ connectionString, key: keyOf(name), signal }, work);
    } catch (error) {
      if (!signal.aborted) onError(error);
    }
    await delay(retryMs, undefined, { signal }).catch(() => {});
  }
}

async function holdOnce(
  { connectionString, key, signal }: { connectionString: string; key: string; signal: AbortSignal },
  work: (held: AbortSignal) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({
    connectionString,
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: 'caisson-lock',
  });
  const lost = new AbortController();
  client.on('error', () => lost.abort());
  client.on('end', () => lost.abort());
  try {
    await client.connect();
    const { rows } = await client.query<{ locked: boolean }>('select pg_try_advisory_lock($1) as locked', [key]);
    if (rows[0]?.locked) await work(AbortSignal.any([signal, lost.signal]));
  } finally {
    await client.end().catch(() => {});
  }
}

/** PostgreSQL's advisory locks are numbers: the first 63 bits of the name's hash. */
function keyOf(name: string): string {
  return createHash('sha256').update(name).digest().readBigInt64BE(0).toString();
}
