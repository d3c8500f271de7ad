import { sql } from 'kysely';
import { openDatabase } from '../server/store/database.ts';

export const bareConnections = 8;
const measureMs = 2_000;

/**
 * Durable changes per second that this PostgreSQL makes for nobody in particular: `bareConnections` clients, each of which in a loop
 * updates a row of its own and inserts another in one transaction. What an engine with a commit per change could reach at most.
 */
export async function bareChangesPerSecond(connectionString: string): Promise<number> {
  const { db, close } = openDatabase(connectionString, bareConnections);
  try {
    await sql`create table if not exists bench_rows (id int primary key, state int not null)`.execute(db);
    await sql`create table if not exists bench_events (id bigserial primary key, row_id int not null, state int not null)`.execute(
      db,
    );
    const clients = Array.from({ length: bareConnections }, (_, id) => id);
    for (const id of clients) await sql`insert into bench_rows values (${id}, 0) on conflict do nothing`.execute(db);
    const startedMs = performance.now();
    const isOver = () => performance.now() - startedMs > measureMs;
    const change = (id: number) =>
      sql`with changed as (update bench_rows set state = state + 1 where id = ${id} returning id, state)
        insert into bench_events (row_id, state) select id, state from changed`.execute(db);
    const counts = clients.map(async (id) => {
      let count = 0;
      for (; !isOver(); count++) await change(id);
      return count;
    });
    const total = (await Promise.all(counts)).reduce((sum, each) => sum + each, 0);
    return total / ((performance.now() - startedMs) / 1_000);
  } finally {
    await close();
  }
}
