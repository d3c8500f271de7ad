import { join } from 'node:path';
import type { Config } from './config.ts';
import { type PostgresLog, startPostgres } from './postgres-supervisor.ts';

/** A database that can be used. */
export interface OpenPostgres {
  readonly connectionString: string;
  /** Ends it if it was started here. */
  stop(): Promise<void>;
}

/**
 * The database of an installation: that of DATABASE_URL once it has answered, else the embedded one, started. `onLaunch` is called once
 * that happens without this process, which may then load the much that works with it. Throws `database_unavailable`.
 */
export async function openPostgres(
  { databaseUrl, dataDir }: Config,
  { progress, ...options }: { progress: (line: string) => void; log: PostgresLog; onLaunch: () => void },
): Promise<OpenPostgres> {
  if (databaseUrl !== null) {
    const { checkDatabase } = await import('./postgres-check.ts');
    await checkDatabase(databaseUrl);
    return { connectionString: databaseUrl, stop: async () => {} };
  }
  progress('starting the embedded PostgreSQL');
  return startPostgres({ dataDir: join(dataDir, 'postgres'), ...options });
}
