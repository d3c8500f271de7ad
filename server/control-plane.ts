import { join } from 'node:path';
import type { HostApi } from '@caisson/contracts/host-api';
import type { Logger } from 'pino';
import { createApp } from './app.ts';
import type { Config } from './config.ts';
import type { RunDefaults } from './engine/assignment.ts';
import { makeLateEffects } from './engine/late-effects.ts';
import { makeEngine } from './engine/make-engine.ts';
import { openNotifications } from './engine/notifications.ts';
import { authenticateUser } from './identity/authenticate-user.ts';
import { bootstrap } from './identity/bootstrap.ts';
import { readInstallationSecrets } from './identity/installation-secrets.ts';
import { issuePersonalToken } from './identity/issue-token.ts';
import { makeMetrics } from './metrics.ts';
import type { OpenPostgres } from './open-postgres.ts';
import { openDirectoryBlobs } from './store/blobs.ts';
import { type Database, openDatabase } from './store/database.ts';
import { migrate } from './store/migrate.ts';

export interface ControlPlane {
  /** Where the doors listen, e.g. `http://127.0.0.1:4710`. */
  readonly url: string;
  /** A personal token of the first user, made at the first start of an installation and never shown again. */
  readonly freshToken: string | null;
  /** `known` when it is a token of this database, else a new one of the first user: whoever has the data directory has all of it. */
  localToken(known: string | null): Promise<string>;
  attachHost(host: HostApi): { detach(): Promise<void> };
  /** No new job is given to a host from here on, and `/healthz` says so. */
  drain(): Promise<void>;
  /** Resolves when no job runs any more, or with false when `signal` aborts first. */
  idle(signal: AbortSignal): Promise<boolean>;
  close(): Promise<void>;
}

export interface ControlPlaneOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Its database; stopped with the control plane. */
  readonly postgres: Promise<OpenPostgres>;
}

const runDefaults: RunDefaults = {
  shape: { cpus: 2, memoryBytes: 4 * 2 ** 30, diskBytes: 20 * 2 ** 30, pids: 4_096 },
  image: 'minimal',
  jobTimeoutMs: 3_600_000,
  renderTimeoutMs: 120_000,
  graceMs: 10_000,
  maxOutputBytes: 64 * 2 ** 20,
  // Moving a disk takes about as long.
  copyAfterMs: 3_000,
};
const idleCheckMs = 250;

/** Starts a control plane on its database: the engine, the doors. What was opened is closed again when a later part fails. */
export async function startControlPlane({ config, logger, postgres }: ControlPlaneOptions): Promise<ControlPlane> {
  const opened = new AsyncDisposableStack();
  try {
    const { connectionString, stop } = await postgres;
    opened.defer(stop);
    const isChanged = await migrate(connectionString);
    const database = openDatabase(connectionString);
    opened.defer(() => database.close());
    const { db } = database;
    const notifications = await openNotifications(connectionString, logger);
    opened.defer(() => notifications.close());
    const { freshToken, userId } = await bootstrap(db, { email: config.bootstrapEmail, token: config.bootstrapToken });
    const blobs = await openDirectoryBlobs(join(config.dataDir, 'blobs'));
    const layerBlobs = await openDirectoryBlobs(join(config.dataDir, 'layer-blobs'));
    const effects = makeLateEffects(async () => {
      const { openEffects } = await import('./engine/effects.ts');
      return openEffects(connectionString, logger);
    }, logger);
    opened.defer(() => effects.stop());
    // What the queue has to make in a new database it makes now, where a failure is still told.
    if (isChanged) await effects.open();
    const engine = await makeEngine({
      db,
      connectionString,
      notifications,
      effects,
      blobs,
      layerBlobs,
      defaults: { ...runDefaults, shape: { ...runDefaults.shape, memoryBytes: config.jobMemoryBytes } },
      logger,
    });
    opened.defer(() => engine.stop());
    let isDraining = false;
    const app = await createApp({
      db,
      engine,
      blobs,
      secrets: await readInstallationSecrets(db),
      maxSourceBytes: config.maxSourceBytes,
      maxUnfinishedBuilds: config.maxUnfinishedBuilds,
      nowMs: () => Date.now(),
      logger,
      metrics: makeMetrics(db),
      isDraining: () => isDraining,
      settings: config,
    });
    opened.defer(() => app.close());
    // First of all, since closing the doors waits for the requests that run.
    opened.defer(() => engine.interruptWaits());
    const url = await app.listen({ port: config.port, host: config.address });
    return {
      url,
      freshToken,
      localToken: (known) => localToken(db, userId, known),
      attachHost: (host) => engine.attachHost(host),
      async drain() {
        isDraining = true;
        await engine.stopPlacing();
      },
      idle: (signal) => becomesIdle(db, signal),
      close: () => opened.disposeAsync(),
    };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function becomesIdle(db: Database, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    // A database that is away just now leaves it open.
    const held = await db
      .selectFrom('leases')
      .select('id')
      .where('status', '=', 'held')
      .limit(1)
      .execute()
      .catch(() => null);
    if (held?.length === 0) return true;
    await new Promise((resolve) => setTimeout(resolve, idleCheckMs));
  }
  return false;
}

async function localToken(db: Database, userId: string, known: string | null): Promise<string> {
  const isKnown =
    known !== null &&
    (await authenticateUser(db, `Bearer ${known}`).then(
      () => true,
      () => false,
    ));
  if (isKnown) return known;
  const description = 'command line on the machine of Caisson';
  return (await issuePersonalToken(db, { userId, description, expiresAt: null })).token;
}
