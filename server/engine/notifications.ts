import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import type { Database, Tx } from '../store/database.ts';

const channel = 'caisson';
const firstRetryMs = 100;
const longestRetryMs = 5_000;

/** What a notification can be about; the id follows behind a colon. */
export type Topic = 'job' | 'build' | 'host' | 'placement';

/**
 * PostgreSQL NOTIFY heard by this process over one connection. A notification only makes things fast: whoever waits also looks
 * by itself now and then, and after a lost connection everybody is woken once.
 */
export interface Notifications {
  /** Calls back on `topic:id`, and on every reconnect; returns the unsubscribe. */
  on(topic: Topic, id: string, wake: () => void): () => void;
  close(): Promise<void>;
}

/** Tells every control plane about `topic:id` when the surrounding transaction commits. */
export async function notify(tx: Database | Tx, topic: Topic, id: string): Promise<void> {
  await sql`select pg_notify(${channel}, ${`${topic}:${id}`})`.execute(tx);
}

/** Starts listening; resolves after the first successful LISTEN and keeps reconnecting from then on. */
export async function openNotifications(connectionString: string, logger: Logger): Promise<Notifications> {
  const listeners = new Map<string, Set<() => void>>();
  const stop = new AbortController();
  let client = await listen(connectionString, listeners);
  const running = keepListening();

  async function keepListening(): Promise<void> {
    while (!stop.signal.aborted) {
      await ended(client, stop.signal);
      if (stop.signal.aborted) break;
      logger.warn('the notification connection was lost; reconnecting');
      const next = await reconnect(connectionString, listeners, stop.signal);
      if (next === null) break;
      client = next;
      for (const wakes of listeners.values()) for (const wake of wakes) wake();
    }
  }

  return {
    on(topic, id, wake) {
      const key = `${topic}:${id}`;
      const wakes = listeners.get(key) ?? new Set();
      listeners.set(key, wakes.add(wake));
      return () => {
        wakes.delete(wake);
        if (wakes.size === 0 && listeners.get(key) === wakes) listeners.delete(key);
      };
    },
    async close() {
      stop.abort();
      await client.end().catch(() => {});
      await running;
    },
  };
}

async function listen(connectionString: string, listeners: Map<string, Set<() => void>>): Promise<pg.Client> {
  const client = new pg.Client({ connectionString, keepAlive: true, application_name: 'caisson-listen' });
  client.on('notification', ({ payload }) => {
    for (const wake of listeners.get(payload ?? '') ?? []) wake();
  });
  // A client without an error listener ends the process when its server goes away.
  client.on('error', () => {});
  await client.connect();
  await client.query(`listen ${channel}`);
  return client;
}

function ended(client: pg.Client, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    client.once('end', () => resolve());
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

async function reconnect(
  connectionString: string,
  listeners: Map<string, Set<() => void>>,
  signal: AbortSignal,
): Promise<pg.Client | null> {
  for (let waitMs = firstRetryMs; !signal.aborted; waitMs = Math.min(waitMs * 2, longestRetryMs)) {
    try {
      return await listen(connectionString, listeners);
    } catch {
      await delay(waitMs, undefined, { signal }).catch(() => {});
    }
  }
  return null;
}
