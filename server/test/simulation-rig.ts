import { openSqlSession, type SqlSession } from '../simulation/sql-session.ts';
import { freshDatabase } from './database.ts';

/** A session of the simulation on a database of the test's own. */
export async function simulationSession(): Promise<SqlSession> {
  const { connectionString, drop } = await freshDatabase();
  const session = await openSqlSession(connectionString);
  return {
    ...session,
    async close() {
      await session.close();
      await drop();
    },
  };
}
