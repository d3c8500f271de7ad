import { readdir, readFile } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import pg from 'pg';

const ownUrl = new URL('../migrations/', import.meta.url);
const lockKey = 7_226_101;

/**
 * Brings a database to this version: each missing `NNNN_name.sql`, in order, in a transaction of its own. Safe when several
 * processes start at once. Resolves with whether any was missing. Throws `database_too_new` when a newer version has applied a
 * migration marked `-- breaking`. The files are those of this version, unless a test has others.
 */
export async function migrate(connectionString: string, migrationsUrl: URL = ownUrl): Promise<boolean> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await client.query('select pg_advisory_lock($1)', [lockKey]);
    await client.query(
      'create table if not exists migrations (name text primary key, breaking boolean not null, applied_at timestamptz not null default now())',
    );
    return await applyMissing(client, migrationsUrl);
  } finally {
    await client.end();
  }
}

async function applyMissing(client: pg.Client, migrationsUrl: URL): Promise<boolean> {
  const names = (await readdir(migrationsUrl)).filter((name) => name.endsWith('.sql')).sort();
  const { rows } = await client.query<{ name: string; breaking: boolean }>('select name, breaking from migrations');
  const unknown = rows.find((row) => row.breaking && !names.includes(row.name));
  if (unknown) {
    throw new AppError(
      'database_too_new',
      `the database was changed by a newer Caisson (${unknown.name}); start that version`,
    );
  }
  const applied = new Set(rows.map((row) => row.name));
  const missing = names.filter((name) => !applied.has(name));
  for (const name of missing) await apply(client, name, new URL(name, migrationsUrl));
  return missing.length > 0;
}

async function apply(client: pg.Client, name: string, url: URL): Promise<void> {
  const sql = await readFile(url, 'utf8');
  await client.query('begin');
  try {
    await client.query(sql);
    await client.query('insert into migrations (name, breaking) values ($1, $2)', [
      name,
      sql.startsWith('-- breaking'),
    ]);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw new Error(`migration ${name} failed`, { cause: error });
  }
}
