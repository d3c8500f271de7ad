import { AppError } from '@caisson/contracts/app-error';
import pg from 'pg';

const oldestVersion = 15;

/** Asks the database of a `DATABASE_URL` for its version; throws `database_unavailable` when it does not answer or is too old. */
export async function checkDatabase(connectionString: string): Promise<{ version: string }> {
  const version = await askVersion(connectionString);
  if (Number.parseInt(version, 10) >= oldestVersion) return { version };
  throw new AppError(
    'database_unavailable',
    `DATABASE_URL leads to PostgreSQL ${version}; Caisson needs ${oldestVersion} or newer`,
  );
}

async function askVersion(connectionString: string): Promise<string> {
  try {
    const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5_000 });
    try {
      await client.connect();
      const { rows } = await client.query<{ server_version: string }>('show server_version');
      return rows[0]?.server_version ?? 'unknown';
    } finally {
      await client.end();
    }
  } catch (cause) {
    const reason = cause instanceof Error && cause.message ? cause.message : 'no answer';
    throw new AppError('database_unavailable', `the database of DATABASE_URL cannot be used: ${reason}`, { cause });
  }
}
