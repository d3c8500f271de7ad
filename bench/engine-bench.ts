import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startPostgres } from '../server/postgres-supervisor.ts';
import { type Database, openDatabase } from '../server/store/database.ts';
import { migrate } from '../server/store/migrate.ts';
import { ir } from '../server/test/ir.ts';
import { addPipeline, type PipelineScope } from '../server/test/pipeline-scope.ts';
import { type EngineProcess, startEngineProcess } from './engine-process.ts';

/** A durable PostgreSQL of its own, and control planes on it as processes of their own, each with a scripted host. */
export interface EngineBench {
  readonly db: Database;
  readonly connectionString: string;
  /** An organization and a pipeline for builds. */
  readonly scope: PipelineScope;
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
    const scope = await addPipeline(db);
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
    Array.from({ length }, (_, at) => [`c${chain}-${at}`, [cmd, at === 0 ? 'root' : `c${chain}-${at - 1}`]] as const),
  );
  return ir(Object.fromEntries([['root', [cmd]] as const, ...chains.flat()]));
}
