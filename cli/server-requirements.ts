import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '@caisson/contracts/app-error';
import { missing, ok, type Requirement, warning } from '@caisson/host/requirement';
import type { Config } from '@caisson/server/config';
import { postgresAccount } from '@caisson/server/postgres-account';
import { preparePostgresBinaries } from '@caisson/server/postgres-binaries';
import { checkDatabase } from '@caisson/server/postgres-check';

/** What the control plane needs of this machine: a database and a free port. */
export function serverRequirements(config: Config): Promise<Requirement[]> {
  return Promise.all([
    config.databaseUrl ? checkOwnDatabase(config.databaseUrl) : checkEmbeddedDatabase(config.dataDir),
    checkPort(config),
  ]);
}

async function checkOwnDatabase(databaseUrl: string): Promise<Requirement> {
  try {
    return ok('PostgreSQL', `${(await checkDatabase(databaseUrl)).version} at DATABASE_URL`);
  } catch (error) {
    return missing('PostgreSQL', messageOf(error), 'correct DATABASE_URL, or unset it to use the embedded PostgreSQL');
  }
}

async function checkEmbeddedDatabase(dataDir: string): Promise<Requirement> {
  const copyDir = await mkdtemp(join(tmpdir(), 'caisson-doctor-'));
  try {
    const account = await postgresAccount(join(dataDir, 'postgres', 'cluster'));
    const { version } = await preparePostgresBinaries({ account, copyDir });
    return ok('PostgreSQL', `${version}, embedded${account ? `, runs as ${account.name}` : ''}`);
  } catch (error) {
    return missing('PostgreSQL', messageOf(error), 'set DATABASE_URL to a PostgreSQL of your own (15 or newer)');
  } finally {
    await rm(copyDir, { recursive: true, force: true });
  }
}

async function checkPort({ port, address }: Config): Promise<Requirement> {
  const server = createServer();
  const refused = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    server.once('error', resolve);
    server.listen(port, address, () => resolve(null));
  });
  server.close();
  if (!refused) return ok('port', `${address}:${port} is free`);
  if (refused.code !== 'EADDRINUSE') return missing('port', refused.message, 'set CAISSON_ADDRESS and CAISSON_PORT');
  return warning(
    'port',
    `${address}:${port} is in use, perhaps by a running Caisson`,
    'set CAISSON_PORT to another one',
  );
}
