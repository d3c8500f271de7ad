import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BuildRef, createBuild, createPipeline, logToken } from '../cli/build-requests.ts';
import { readCliConfig } from '../cli/config.ts';
import { connectTo, type OpenServer } from '../cli/open-server.ts';
import { startLocal } from '../cli/start-local.ts';
import { seedImage } from '../host/test/image-cache.ts';
import { readConfig } from '../server/config.ts';
import { startPostgres } from '../server/postgres-supervisor.ts';
import { type Database, openDatabase } from '../server/store/database.ts';
import { ir } from '../server/test/ir.ts';

/** A whole Caisson in this process: PostgreSQL, control plane, host with real capsules, on a directory of its own. */
export interface Local {
  readonly url: string;
  /** To read what was recorded; everything is asked for through the API. */
  readonly db: Database;
  /** Creates a build and returns its number and id. */
  build(pipelineIr: string): Promise<LocalBuild>;
  /** Waits until the build is over; throws unless it passed. */
  passed(build: LocalBuild, signal: AbortSignal): Promise<void>;
  logToken(build: LocalBuild): Promise<string>;
  end(): Promise<void>;
}

export interface LocalBuild {
  readonly id: string;
  readonly number: number;
}

export const localNote =
  'One process holds the control plane and the host, PostgreSQL runs durably beside it; image `minimal` (Debian), capsules of 2 CPUs and 4 GiB with network.';

const place = { org: 'local', pipeline: 'bench' };
const lookEveryMs = 20;

export async function openLocal(say: (line: string) => void): Promise<Local> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-bench-'));
  const opened = new AsyncDisposableStack();
  opened.defer(() => rm(dataDir, { recursive: true, force: true }));
  try {
    await seedImage(join(dataDir, 'host'));
    const quiet = { info: () => {}, warn: () => {} };
    const postgres = await startPostgres({ dataDir: join(dataDir, 'postgres'), log: quiet });
    opened.defer(() => postgres.stop());
    const environment = { CAISSON_DATA_DIR: dataDir, CAISSON_PORT: '0', DATABASE_URL: postgres.connectionString };
    const local = await startLocal({
      config: { ...readConfig(environment), port: 0 },
      cli: readCliConfig(environment),
      progress: say,
      hosts: [],
      isBrief: false,
      signal: new AbortController().signal,
    });
    opened.defer(() => local.close({ end: true }));
    const { db, close } = openDatabase(postgres.connectionString, 2);
    opened.defer(close);
    const server = connectTo(local.url, local.token);
    await makePipeline(server);
    return { url: local.url, db, ...operations(server, db), end: () => opened.disposeAsync() };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

/** The pipeline all builds of the bench belong to. */
export async function makePipeline(server: OpenServer): Promise<void> {
  const body = { name: place.pipeline, repository: 'https://example.test/bench.git', default_branch: 'main' };
  await createPipeline(server, place.org, body);
}

/** A build of it. */
export async function startBuild(server: OpenServer, pipelineIr: string): Promise<BuildRef> {
  const body = { branch: 'main', commit: '0'.repeat(40), pipeline_ir: pipelineIr };
  return { ...place, number: (await createBuild(server, place, body)).number };
}

function operations(server: OpenServer, db: Database): Pick<Local, 'build' | 'passed' | 'logToken'> {
  return {
    async build(pipelineIr) {
      const { number } = await startBuild(server, pipelineIr);
      const row = await db.selectFrom('builds').select('id').where('number', '=', number).executeTakeFirstOrThrow();
      return { id: row.id, number };
    },
    async passed({ id }, signal) {
      for (;;) {
        signal.throwIfAborted();
        const row = await db.selectFrom('builds').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
        if (row.status === 'passed') return;
        if (row.finished_at !== null) throw new Error(`the build ended ${row.status}: ${await whatFailed(db, id)}`);
        await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
      }
    },
    logToken: ({ number }) => logToken(server, { ...place, number }),
  };
}

async function whatFailed(db: Database, buildId: string): Promise<string> {
  const jobs = await db.selectFrom('jobs').selectAll().where('build_id', '=', buildId).execute();
  const wrong = jobs.filter(({ status }) => status !== 'passed');
  return wrong.map((job) => `${job.step_key} ${job.status} ${job.error_message ?? ''}`).join('; ');
}

/** IR of a chain in which every step starts from the disk of the one before. */
export function chainIr(commands: readonly string[]): string {
  return ir(
    Object.fromEntries(commands.map((cmd, index) => [`s${index}`, index === 0 ? [cmd] : [cmd, `s${index - 1}`]])),
  );
}
