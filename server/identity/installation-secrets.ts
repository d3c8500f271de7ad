import type { Database } from '../store/database.ts';

export interface InstallationSecrets {
  readonly logTokenSecret: string;
  readonly runnerTokenSecret: string;
}

/** The secrets every control plane on this database signs with; `bootstrap` makes them. Throws when they are missing. */
export async function readInstallationSecrets(db: Database): Promise<InstallationSecrets> {
  const row = await db.selectFrom('installation').selectAll().executeTakeFirstOrThrow();
  return { logTokenSecret: row.log_token_secret, runnerTokenSecret: row.runner_token_secret };
}
