import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startPostgres } from '../server/postgres-supervisor.ts';
import { type Database, openDatabase } from '../server/store/database.ts';
import { migrate } from '../server/store/migrate.ts';
import { type EngineProcess, type EngineSettings, startEngineProcess } from './engine-process.ts';

/** A durable PostgreSQL of its own, and control planes on it as processes of their own, each with a scripted host. */
export interface EngineBench {
  readonly db: Database;
  readonly connectionString: string;
  /** An organization and a pipeline for builds. */
  readonly scope: Pick<EngineSettings, 'organizationId' | 'pipelineId'>;
  /** Starts control planes until there are `count`. */
  engines(count: number): Promise<readonly EngineProcess[]>;
  end(): Promise<void>;
}

export const engineNote =
  'Real engine, migrations and PostgreSQL (durable: fsync and synchronous commit on); the host is scripted: it takes a job, says `started` and `finished` at once and runs nothing. Each control plane is a process of its own with a host of its own.';

export async function openEngineBench(): Promise<EngineBench> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-bench-'));
  const opened = new AsyncDisposableStack();
  opened.defer(() => rm(dataDir, { recursive: true, force: true }));
  try {
    const postgres = await startPostgres({ dataDir, log: { info: () => {}, warn: () => {} } });
    opened.defer(() => postgres.stop());
    await migrate(postgres.connectionString);
    const { db, close } = openDatabase(postgres.connectionString, 2);
    opened.defer(close);
    const scope = await makePipeline(db);
    const started: EngineProcess[] = [];
    opened.defer(async () => void (await Promise.all(started.map((each) => each.end()))));
    return {
      ...{ db, scope, connectionString: postgres.connectionString },
      async engines(count) {
        while (started.length < count) {
          started.push(await startEngineProcess({ connectionString: postgres.connectionString, ...scope }));
        }
        return started;
      },
      end: () => opened.disposeAsync(),
    };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function makePipeline(db: Database): Promise<{ organizationId: string; pipelineId: string }> {
  const [organizationId, pipelineId] = [randomUUID(), randomUUID()];
  await db
    .insertInto('organizations')
    .values({ id: organizationId, slug: 'local', name: 'Local', url: null })
    .execute();
  await db
    .insertInto('pipelines')
    .values({
      ...{ id: pipelineId, organization_id: organizationId, slug: 'bench', name: 'bench', default_branch: 'main' },
      ...{ repository: 'https://example.test/a/b.git', repo_name: 'a/b', source_slug: 'bench', description: null },
    })
    .execute();
  return { organizationId, pipelineId };
}

/** Resolves when every build is over; throws unless all passed. */
export async function allPassed(db: Database, buildIds: readonly string[], signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const rows = await db.selectFrom('builds').select(['status', 'finished_at']).where('id', 'in', buildIds).execute();
    if (rows.every(({ finished_at }) => finished_at !== null)) {
      const wrong = rows.filter(({ status }) => status !== 'passed');
      if (wrong.length > 0 || rows.length !== buildIds.length) throw new Error(`${wrong.length} builds did not pass`);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** One step, then `width` chains of `length` steps that each start from it. */
export function fanOutIr({ width, length, cmd }: { width: number; length: number; cmd: string }): string {
  const chains = Array.from({ length: width }, (_, chain) =>
    Array.from({ length }, (_, at) => ({
      type: 'command',
      key: `c${chain}-${at}`,
      cmd,
      builds_in: at === 0 ? 'root' : `c${chain}-${at - 1}`,
    })),
  );
  return JSON.stringify({ version: '0', steps: [{ type: 'command', key: 'root', cmd }, ...chains.flat()] });
}
