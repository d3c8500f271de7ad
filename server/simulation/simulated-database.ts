import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely';
import type { Database } from '../store/database.ts';
import type { Schema } from '../store/schema.ts';
import type { Answer } from './sql-session.ts';

/** How one control plane reaches the database: every statement passes here, and waits here for its turn. */
export interface DatabaseGate {
  statement(query: CompiledQuery): Promise<Answer>;
  begin(): Promise<GatedTransaction>;
}

export interface GatedTransaction {
  statement(query: CompiledQuery): Promise<Answer>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

interface GatedConnection extends DatabaseConnection {
  transaction: GatedTransaction | null;
}

/** The query builder of the control plane, unchanged, over a gate. */
export function databaseBehind(gate: DatabaseGate): Database {
  return new Kysely<Schema>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => driverOf(gate),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  });
}

function driverOf(gate: DatabaseGate): Driver {
  const transactions = new WeakMap<DatabaseConnection, GatedTransaction>();
  const connect = (): GatedConnection => {
    const connection: GatedConnection = {
      transaction: null,
      async executeQuery<R>(query: CompiledQuery) {
        const answer = await (connection.transaction ?? gate).statement(query);
        return resultOf(answer) as QueryResult<R>;
      },
      // biome-ignore lint/correctness/useYield: the control plane streams nothing
      async *streamQuery() {
        throw new Error('streaming is not simulated');
      },
    };
    return connection;
  };
  return {
    init: async () => {},
    acquireConnection: async () => connect(),
    async beginTransaction(connection) {
      const transaction = await gate.begin();
      transactions.set(connection, transaction);
      (connection as GatedConnection).transaction = transaction;
    },
    commitTransaction: async (connection) => transactions.get(connection)?.commit(),
    rollbackTransaction: async (connection) => transactions.get(connection)?.rollback(),
    releaseConnection: async () => {},
    destroy: async () => {},
  };
}

function resultOf({ command, rows, rowCount }: Answer): QueryResult<unknown> {
  const isChange = command === 'INSERT' || command === 'UPDATE' || command === 'DELETE';
  return isChange ? { rows: [...rows], numAffectedRows: BigInt(rowCount) } : { rows: [...rows] };
}
