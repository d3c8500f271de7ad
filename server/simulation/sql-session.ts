import type { PoolClient } from 'pg';
import { openDatabase } from '../store/database.ts';

export interface Answer {
  readonly command: string;
  readonly rows: readonly unknown[];
  readonly rowCount: number;
}

/**
 * One connection to a real PostgreSQL whose clock is the simulation's. Everybody in the simulation speaks over it: transactions come one
 * after the other, so none ever waits for a lock, and the order of everything is the seed's.
 */
export interface SqlSession {
  query(text: string, parameters: readonly unknown[]): Promise<Answer>;
  begin(): void;
  commit(): Promise<void>;
  rollback(): Promise<void>;
  /** Empties every table, as after a fresh start. */
  clear(): Promise<void>;
  /** From here on the database's clock is read from `clock`. */
  follow(clock: () => number): void;
  close(): Promise<void>;
}

/**
 * `clock_timestamp()` and `now()` that read a setting stand before PostgreSQL's own on the search path, and in the defaults of columns:
 * the control plane's SQL stays as it is.
 */
const simulatedClock = `
  create schema if not exists simulation;
  create or replace function simulation.now() returns timestamptz stable language sql
    as $$ select to_timestamp(current_setting('simulation.now_ms')::float8 / 1000) $$;
  create or replace function simulation.clock_timestamp() returns timestamptz stable language sql
    as $$ select to_timestamp(current_setting('simulation.now_ms')::float8 / 1000) $$;
  do $$
  declare found record;
  begin
    for found in select table_name, column_name from information_schema.columns
      where table_schema = 'public' and column_default in ('now()', 'pg_catalog.now()')
    loop
      execute format('alter table public.%I alter column %I set default simulation.now()', found.table_name, found.column_name);
      execute format('alter table public.%I set (autovacuum_enabled = false)', found.table_name);
    end loop;
  end $$`;

/** One connection with one plan per statement is what makes thousands of seeds cheap. */
const settings = `
  set search_path = simulation, public, pg_catalog;
  set plan_cache_mode = force_generic_plan;
  set jit = off;
  set synchronous_commit = off;
  set client_min_messages = warning`;

/** All but what a migration fills. */
const tablesToClear = `
  select table_name as name from information_schema.tables
  where table_schema = 'public' and table_name not in ('migrations', 'watch', 'installation')`;
const clearsPerVacuum = 20;

const clearing = (tables: readonly string[]) => `
  begin;
  ${tables.map((table) => `delete from ${table}`).join(';\n  ')};
  select setval('leases_fence_seq', 1, false), setval('events_id_seq', 1, false);
  commit`;

/** Opens a session on a migrated database that holds nothing; the database's defaults are changed for good. */
export async function openSqlSession(connectionString: string): Promise<SqlSession> {
  const { pool, close } = openDatabase(connectionString, 2, { pipeline: true });
  const client = await pool.connect();
  const sweeper = await pool.connect();
  await client.query(simulatedClock);
  await client.query(settings);
  await sweeper.query('set session_replication_role = replica');
  const { rows } = await sweeper.query<{ name: string }>(tablesToClear);
  return makeSession({ client, sweeper, tables: rows.map(({ name }) => name) }, close);
}

/** Rows that are inserted take the time as their default. */
function needsClock(text: string): boolean {
  return text.includes('clock_timestamp') || text.includes('insert');
}

interface Connections {
  readonly client: PoolClient;
  /** Clears without the triggers of foreign keys, since everything goes. To say so makes a connection forget all its plans. */
  readonly sweeper: PoolClient;
  /** Those it clears. */
  readonly tables: readonly string[];
}

function makeSession({ client, sweeper, tables }: Connections, close: () => Promise<void>): SqlSession {
  const names = new Map<string, string>();
  let readClock = (): number => 0;
  let toldMs = Number.NaN;
  let clears = 0;
  const ahead: Promise<unknown>[] = [];

  function nameOf(text: string): string {
    const known = names.get(text);
    if (known !== undefined) return known;
    names.set(text, `s${names.size}`);
    return nameOf(text);
  }

  /** What sets the clock, if it has moved since. */
  function clockText(): string {
    const nowMs = readClock();
    if (nowMs === toldMs) return '';
    toldMs = nowMs;
    return `set simulation.now_ms = '${nowMs}';`;
  }

  /** Sent at once; its answer is awaited with that of what follows, which saves a round trip. */
  function sendAhead(text: string): void {
    const sent = client.query(text);
    sent.catch(() => {});
    ahead.push(sent);
  }

  async function behind<T>(answer: Promise<T>): Promise<T> {
    const [found] = await Promise.all([answer, ...ahead.splice(0)]);
    return found;
  }

  return {
    async query(text, parameters) {
      const clock = needsClock(text) ? clockText() : '';
      if (clock !== '') sendAhead(clock);
      const sent = client.query({ name: nameOf(text), text, values: [...parameters] });
      const { command, rows, rowCount } = await behind(sent);
      return { command, rows, rowCount: rowCount ?? 0 };
    },
    begin: () => sendAhead(`${clockText()}begin`),
    async commit() {
      await behind(client.query('commit'));
    },
    async rollback() {
      await behind(client.query('rollback'));
      // What was set inside is taken back as well.
      toldMs = Number.NaN;
    },
    async clear() {
      await sweeper.query(clearing(tables));
      clears += 1;
      if (clears % clearsPerVacuum === 0) await sweeper.query(`vacuum ${tables.join(',')}`);
    },
    follow(clock) {
      readClock = clock;
      toldMs = Number.NaN;
    },
    async close() {
      client.release();
      sweeper.release();
      await close();
    },
  };
}
