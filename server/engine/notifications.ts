import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import type { Database, Tx } from '../store/database.ts';

const channel = 'caisson';
const firstRetryMs = 100;
const longestRetryMs = 5_000;
const connectTimeoutMs = 10_000;
// PostgreSQL takes payloads of less than 8,000 bytes.
const payloadBytes = 7_900;

/** What a notification can be about; the id follows behind a colon. */
export type Topic = 'job' | 'build' | 'host' | 'placement';
export type Notice = `${Topic}:${string}`;

/**
 * PostgreSQL NOTIFY heard by this process over one connection. A notification only makes things fast: whoever waits also looks
 * by itself now and then, and after a lost connection everybody is woken once.
 */
export interface Notifications {
  /** Calls back on `topic:id`, and on every reconnect; returns the unsubscribe. */
  on(topic: Topic, id: string, wake: () => void): () => void;
  /**
   * Tells the other control planes when the surrounding transaction commits. Whoever listens here is woken by `wake` after the
   * commit, which is faster, and does not hear it again.
   */
  tell(tx: Tx, notices: Iterable<Notice>): Promise<void>;
  /** Wakes whoever listens here, at once. */
  wake(notices: Iterable<Notice>): void;
  close(): Promise<void>;
}

const anybody = '-';

/** Tells every control plane about `topic:id` when the surrounding transaction commits. */
export async function notify(tx: Database | Tx, topic: Topic, id: string): Promise<void> {
  await send(tx, payloadsOf(anybody, [`${topic}:${id}`]));
}

async function send(tx: Database | Tx, payloads: readonly string[]): Promise<void> {
  if (payloads.length === 0) return;
  await sql`select pg_notify(${channel}, payload) from unnest(${payloads}::text[]) as payload`.execute(tx);
}

function payloadsOf(sender: string, notices: Iterable<Notice>): readonly string[] {
  const payloads: string[] = [];
  let payload = sender;
  for (const notice of notices) {
    if (payload.length + notice.length >= payloadBytes) {
      payloads.push(payload);
      payload = sender;
    }
    payload += ` ${notice}`;
  }
  if (payload !== sender) payloads.push(payload);
  return payloads;
}

/** Starts listening; resolves after the first successful LISTEN and keeps reconnecting from then on. */
export async function openNotifications(connectionString: string, logger: Logger): Promise<Notifications> {
  const sender = randomUUID();
  const listeners = new Map<string, Set<() => void>>();
  const stop = new AbortController();
  const wake = (notices: Iterable<string>): void => {
    for (const notice of notices) for (const each of [...(listeners.get(notice) ?? [])]) each();
  };
  const hear = (payload: string): void => {
    const [from, ...notices] = payload.split(' ');
    if (from !== sender) wake(notices);
  };
  let client = await listen(connectionString, hear);
  const running = keepListening();

  async function keepListening(): Promise<void> {
    while (!stop.signal.aborted) {
      await client.ended;
      if (stop.signal.aborted) break;
      logger.warn('the notification connection was lost; reconnecting');
      const next = await reconnect(connectionString, hear, stop.signal);
      if (next === null) break;
      client = next;
      wake([...listeners.keys()]);
    }
  }

  return {
    on(topic, id, each) {
      const key = `${topic}:${id}`;
      const wakes = listeners.get(key) ?? new Set();
      listeners.set(key, wakes.add(each));
      return () => {
        wakes.delete(each);
        if (wakes.size === 0 && listeners.get(key) === wakes) listeners.delete(key);
      };
    },
    tell: (tx, notices) => send(tx, payloadsOf(sender, notices)),
    wake,
    async close() {
      stop.abort();
      await client.end();
      await running;
    },
  };
}

interface Listener {
  readonly ended: Promise<void>;
  end(): Promise<void>;
}

async function listen(connectionString: string, hear: (payload: string) => void): Promise<Listener> {
  const client = new pg.Client({
    connectionString,
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: 'caisson-listen',
  });
  const ended = new Promise<void>((resolve) => client.once('end', () => resolve()));
  client.on('notification', ({ payload }) => hear(payload ?? ''));
  // A client without an error listener ends the process when its server goes away.
  client.on('error', () => {});
  const end = () => client.end().catch(() => {});
  try {
    await client.connect();
    await client.query(`listen ${channel}`);
  } catch (error) {
    void end();
    throw error;
  }
  return { ended, end };
}

async function reconnect(
  connectionString: string,
  hear: (payload: string) => void,
  signal: AbortSignal,
): Promise<Listener | null> {
  for (let waitMs = firstRetryMs; !signal.aborted; waitMs = Math.min(waitMs * 2, longestRetryMs)) {
    try {
      const listener = await listen(connectionString, hear);
      if (!signal.aborted) return listener;
      await listener.end();
    } catch {
      await delay(waitMs, undefined, { signal }).catch(() => {});
    }
  }
  return null;
}
