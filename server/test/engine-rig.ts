import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostApi } from '@caisson/contracts/host-api';
import type { Pool } from 'pg';
import { pino } from 'pino';
import type { RunDefaults } from '../engine/assignment.ts';
import { openEffects } from '../engine/effects.ts';
import type { CreatedBuild, NewBuild } from '../engine/engine.ts';
import { makeEngine, type RunningEngine } from '../engine/make-engine.ts';
import { openNotifications } from '../engine/notifications.ts';
import { type Blobs, openDirectoryBlobs } from '../store/blobs.ts';
import type { BuildRow } from '../store/build-row.ts';
import { type Database, openDatabase } from '../store/database.ts';
import type { JobRow } from '../store/job-row.ts';
import { freshDatabase } from './database.ts';
import { addPipeline, newBuildOf, type PipelineScope } from './pipeline-scope.ts';
import { testDefaults } from './test-defaults.ts';

interface BuildOptions {
  readonly stopOnFailure?: boolean;
  readonly sourceDigest?: string;
}

/** A real engine on a real database, with an organization and a pipeline in it. */
export interface EngineRig extends PipelineScope {
  readonly connectionString: string;
  readonly db: Database;
  readonly pool: Pool;
  readonly blobs: Blobs;
  readonly layerBlobs: Blobs;
  readonly engine: RunningEngine;
  /** Another control plane on the same database. */
  another(): Promise<RunningEngine>;
  newBuild(pipelineIr: string | null, options?: BuildOptions): NewBuild;
  build(pipelineIr: string | null, options?: BuildOptions): Promise<CreatedBuild>;
  /** The build once it is over; rejects after `withinMs`. */
  ended(buildId: string, withinMs?: number): Promise<BuildRow>;
  /** The first row for which `isSo` holds, looking again on every change of the build. */
  until(
    buildId: string,
    isSo: (build: BuildRow, jobs: readonly JobRow[]) => boolean,
    withinMs?: number,
  ): Promise<BuildRow>;
  jobs(buildId: string): Promise<Record<string, JobRow>>;
  close(): Promise<void>;
}

export async function engineRig(hosts: readonly HostApi[], defaults: RunDefaults = testDefaults): Promise<EngineRig> {
  const { connectionString, drop } = await freshDatabase();
  const directory = await mkdtemp(join(tmpdir(), 'caisson-engine-'));
  const logger = pino({ level: 'silent' });
  const { db, pool, close } = openDatabase(connectionString);
  const notifications = await openNotifications(connectionString, logger);
  const blobs = await openDirectoryBlobs(directory);
  const layerBlobs = await openDirectoryBlobs(join(directory, 'layers'));
  const engines: RunningEngine[] = [];
  const start = async () => {
    const effects = await openEffects(connectionString, logger);
    const engine = await makeEngine({
      db,
      connectionString,
      notifications,
      effects,
      blobs,
      layerBlobs,
      defaults,
      logger,
    });
    for (const host of hosts) engine.attachHost(host);
    engines.push(engine);
    return engine;
  };
  const engine = await start();
  const scope = await addPipeline(db);

  /** Null while the database is away. */
  async function read(buildId: string): Promise<readonly [BuildRow | null, readonly JobRow[]]> {
    try {
      const build = await db.selectFrom('builds').selectAll().where('id', '=', buildId).executeTakeFirstOrThrow();
      return [build, await db.selectFrom('jobs').selectAll().where('build_id', '=', buildId).execute()];
    } catch {
      return [null, []];
    }
  }

  const rig: EngineRig = {
    connectionString,
    db,
    pool,
    blobs,
    layerBlobs,
    engine,
    ...scope,
    another: start,
    newBuild: (pipelineIr, options) =>
      newBuildOf(scope, { pipelineIr, commit: '0'.repeat(40), env: { FROM_BUILD: 'yes' }, ...options }),
    build: (pipelineIr, options) => engine.createBuild(rig.newBuild(pipelineIr, options)),
    ended: (buildId, withinMs) => rig.until(buildId, (build) => build.finished_at !== null, withinMs),
    async until(buildId, isSo, withinMs = 30_000) {
      const deadlineMs = Date.now() + withinMs;
      let wake = () => {};
      const unsubscribe = notifications.on('build', buildId, () => wake());
      try {
        for (;;) {
          const woken = new Promise<void>((resolve) => {
            wake = resolve;
            setTimeout(resolve, 250);
          });
          const [build, jobs] = await read(buildId);
          if (build !== null && isSo(build, jobs)) return build;
          if (build !== null && Date.now() > deadlineMs) {
            throw new Error(
              `the build is ${build.status}: ${jobs.map((job) => `${job.step_key} ${job.status}`).join(', ')}`,
            );
          }
          await woken;
        }
      } finally {
        unsubscribe();
      }
    },
    async jobs(buildId) {
      const jobs = await db.selectFrom('jobs').selectAll().where('build_id', '=', buildId).execute();
      return Object.fromEntries(jobs.map((job) => [job.step_key, job]));
    },
    async close() {
      await Promise.all(engines.map((each) => each.stop()));
      await notifications.close();
      await close();
      await drop();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return rig;
}
