import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import type { TestProject } from 'vitest/node';
import { openEffects } from '../engine/effects.ts';
import { startPostgres } from '../postgres-supervisor.ts';
import { migrate } from '../store/migrate.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** A unix socket that answers with the connection string of the run's PostgreSQL, starting it on the first question. */
    databaseSocket: string;
  }
}

/** Name of the migrated database that each test file gets a copy of. */
export const templateName = 'caisson_template';
const memoryDir = '/dev/shm';
const leastMemoryBytes = 4 * 2 ** 30;

/** One PostgreSQL for the whole run of the tests, in the main process, started when the first test file asks for it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(await roomyDir(), 'caisson-tests-'));
  let started: ReturnType<typeof start> | undefined;
  const server = createServer((socket) => {
    started ??= start(join(dir, 'postgres'));
    started.then(
      ({ connectionString }) => socket.end(connectionString),
      (error) => socket.end(`error: ${error.message}`),
    );
  });
  const databaseSocket = join(dir, 'ask');
  await new Promise<void>((resolve) => server.listen(databaseSocket, resolve));
  project.provide('databaseSocket', databaseSocket);
  return async () => {
    server.close();
    await (await started)?.stop();
    await rm(dir, { recursive: true, force: true });
  };
}

/** In memory where there is enough of it: a file system on disk spends more on databases that come and go than the tests themselves. */
async function roomyDir(): Promise<string> {
  const { bavail, bsize } = await statfs(memoryDir).catch(() => ({ bavail: 0, bsize: 0 }));
  return bavail * bsize < leastMemoryBytes ? tmpdir() : memoryDir;
}

async function start(dataDir: string) {
  const quiet = { info: () => {}, warn: () => {} };
  const postgres = await startPostgres({ dataDir, log: quiet, durable: false });
  const admin = new pg.Client({ connectionString: postgres.connectionString });
  await admin.connect();
  await admin.query(`create database ${templateName}`);
  await admin.end();
  const template = withDatabase(postgres.connectionString, templateName);
  await migrate(template);
  // The queue makes its own tables, which takes longer than everything else a test needs.
  const effects = await openEffects(template, pino({ level: 'silent' }));
  await effects.stop();
  return postgres;
}

/** The same server, another database. */
export function withDatabase(connectionString: string, name: string): string {
  return connectionString.replace(/\/\w+\?/, `/${name}?`);
}
