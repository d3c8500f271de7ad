import { Kysely, PostgresDialect, type Transaction } from 'kysely';
import pg from 'pg';
import type { Schema } from './schema.ts';

export type Database = Kysely<Schema>;
export type Tx = Transaction<Schema>;

/** A pool and the typed query builder over it. `close` waits for running queries. */
export interface OpenDatabase {
  readonly db: Database;
  readonly pool: pg.Pool;
  close(): Promise<void>;
}

/** Counters and byte sizes fit a double; a value beyond 2^53 is a bug and throws. */
function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new Error(`int8 out of range: ${text}`);
  return value;
}

const int8Oid = 20;
const connectTimeoutMs = 30_000;
/** Statements of a change follow each other at once. Well within a lease, so that nobody loses one by waiting. */
const idleTransactionMs = 5_000;

/**
 * Opens a pool; connections are made when first needed. `max` is the number of connections. With `pipeline`, what is asked on one
 * connection is sent before what was asked earlier is answered.
 */
export function openDatabase(connectionString: string, max = 10, { pipeline = false } = {}): OpenDatabase {
  const types = {
    getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
      oid === int8Oid ? parseInt8 : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
  };
  const pool = new pg.Pool({
    ...{ connectionString, max, pipeline, types, application_name: 'caisson' },
    connectionTimeoutMillis: connectTimeoutMs,
    // The locks of a process that stands still in the middle of a transaction are not everybody's.
    idle_in_transaction_session_timeout: idleTransactionMs,
  });
  // An idle connection that breaks (server restart) is replaced at the next query; without a listener it would end the process.
  pool.on('error', () => {});
  // The pool listens only while a connection is idle; one that breaks in the middle of a transaction is told to its next query.
  pool.on('connect', (client) => client.on('error', () => {}));
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  return { db, pool, close: () => db.destroy() };
}
