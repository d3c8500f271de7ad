import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import type { HostApi } from '@caisson/contracts/host-api';
import { pino } from 'pino';
import { type AppSettings, createApp } from '../app.ts';
import { openEffects } from '../engine/effects.ts';
import { makeEngine } from '../engine/make-engine.ts';
import { openNotifications } from '../engine/notifications.ts';
import { bootstrap } from '../identity/bootstrap.ts';
import { signBuildToken } from '../identity/build-token.ts';
import { type InstallationSecrets, readInstallationSecrets } from '../identity/installation-secrets.ts';
import { issuePersonalToken } from '../identity/issue-token.ts';
import { makeMetrics } from '../metrics.ts';
import { type Blobs, openDirectoryBlobs } from '../store/blobs.ts';
import type { BuildRow } from '../store/build-row.ts';
import { type Database, openDatabase } from '../store/database.ts';
import { freshDatabase, type TestDatabase } from './database.ts';
import { testDefaults } from './test-defaults.ts';

interface CallOptions {
  /** Null sends no `authorization`. */
  readonly token?: string | null;
  /** Sent as JSON. */
  readonly json?: unknown;
  readonly body?: BodyInit;
  readonly headers?: Record<string, string>;
}

export interface Called {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly json: any;
}

/** A listening control plane on a database of its own, with the real engine and the first user. */
export interface CiRig {
  readonly db: Database;
  readonly blobs: Blobs;
  readonly secrets: InstallationSecrets;
  readonly connectionString: string;
  readonly url: string;
  /** Of the first user, owner of `local`. */
  readonly token: string;
  readonly organizationId: string;
  /** What was logged, one object per line. */
  readonly logged: Record<string, unknown>[];
  isDraining: boolean;
  /** What the process takes for the present, in ms; null is the real time. */
  nowMs: number | null;
  call(method: string, path: string, options?: CallOptions): Promise<Called>;
  /** A user who is a member of nothing. */
  stranger(): Promise<{ userId: string; token: string }>;
  /** A pipeline `ci` in `local`. */
  pipeline(name?: string): Promise<string>;
  /** Asks for a build from this IR, in `local` unless said otherwise. */
  create(pipeline: string, ir: string, organization?: string): Promise<Called>;
  row(pipeline: string, number: number): Promise<BuildRow>;
  /** A build of it with these IR steps; returns its number and id. */
  build(pipeline: string, ir: string): Promise<{ number: number; id: string }>;
  /** Where the log of a job is streamed, with a token for an hour. */
  logUrl(buildId: string, stepKey: string): Promise<string>;
  /** How many archives are being stored. */
  uploads(): Promise<number>;
  closeApp(): Promise<void>;
  close(): Promise<void>;
}

interface CiRigOptions {
  readonly settings?: Partial<AppSettings>;
  readonly maxSourceBytes?: number;
  readonly maxUnfinishedBuilds?: number;
  readonly hosts?: readonly HostApi[];
  /** Instead of one on the PostgreSQL of this test run. */
  readonly database?: TestDatabase;
  /** Instead of a directory of its own. */
  readonly blobDir?: string;
}

export async function ciRig(options: CiRigOptions = {}): Promise<CiRig> {
  const { settings, maxSourceBytes, maxUnfinishedBuilds = 10_000, hosts = [] } = options;
  const { connectionString, drop } = options.database ?? (await freshDatabase());
  const directory = options.blobDir ?? (await mkdtemp(join(tmpdir(), 'caisson-ci-')));
  const logged: Record<string, unknown>[] = [];
  const logger = pino({ level: 'info' }, collect(logged));
  const { db, close } = openDatabase(connectionString);
  const { organizationId, freshToken } = await bootstrap(db, { email: 'first@example.test', token: null });
  const notifications = await openNotifications(connectionString, logger);
  const effects = await openEffects(connectionString, logger);
  const blobs = await openDirectoryBlobs(directory);
  const engine = await makeEngine({
    db,
    connectionString,
    notifications,
    effects,
    blobs,
    layerBlobs: blobs,
    defaults: testDefaults,
    logger,
  });
  for (const host of hosts) engine.attachHost(host);
  const secrets = await readInstallationSecrets(db);
  const app = await createApp({
    db,
    engine,
    blobs,
    secrets,
    logger,
    metrics: makeMetrics(db),
    maxSourceBytes: maxSourceBytes ?? 2 ** 32,
    maxUnfinishedBuilds,
    nowMs: () => rig.nowMs ?? Date.now(),
    isDraining: () => rig.isDraining,
    settings: { corsOrigins: [], trustProxy: false, docsBaseUrl: null, ...settings },
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  const token = freshToken ?? '';

  const rig: CiRig = {
    db,
    blobs,
    secrets,
    connectionString,
    url,
    token,
    organizationId,
    logged,
    isDraining: false,
    nowMs: null,
    async call(method, path, options = {}) {
      const bearer = options.token === undefined ? token : options.token;
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
          ...(options.json === undefined ? {} : { 'content-type': 'application/json' }),
          ...options.headers,
        },
        ...(options.json === undefined ? {} : { body: JSON.stringify(options.json) }),
        ...(options.body === undefined ? {} : { body: options.body, duplex: 'half' }),
      } as RequestInit);
      const text = await response.text();
      const isJson = response.headers.get('content-type')?.startsWith('application/json');
      const json = isJson && text !== '' ? JSON.parse(text) : null;
      return { status: response.status, headers: response.headers, text, json };
    },
    async stranger() {
      const userId = randomUUID();
      await db
        .insertInto('users')
        .values({ id: userId, email: `${userId}@example.test`, name: null })
        .execute();
      const issued = await issuePersonalToken(db, { userId, description: null, expiresAt: null });
      return { userId, token: issued.token };
    },
    async pipeline(name = 'ci') {
      const json = { name, repository: `https://example.test/acme/${name}.git`, default_branch: 'main' };
      const made = await rig.call('POST', '/api/v0/organizations/local/pipelines', { json });
      return made.json.slug;
    },
    create(pipeline, ir, organization = 'local') {
      const json = { branch: 'main', commit: '0'.repeat(40), pipeline_ir: ir };
      return rig.call('POST', `/api/v0/organizations/${organization}/pipelines/${pipeline}/builds`, { json });
    },
    row: (pipeline, number) =>
      db
        .selectFrom('builds')
        .innerJoin('pipelines', 'pipelines.id', 'builds.pipeline_id')
        .selectAll('builds')
        .where('pipelines.slug', '=', pipeline)
        .where('builds.number', '=', number)
        .executeTakeFirstOrThrow(),
    async build(pipeline, ir) {
      const { number } = (await rig.create(pipeline, ir)).json;
      return { number, id: (await rig.row(pipeline, number)).id };
    },
    async logUrl(buildId, stepKey) {
      const { id } = await db
        .selectFrom('jobs')
        .select('id')
        .where('build_id', '=', buildId)
        .where('step_key', '=', stepKey)
        .executeTakeFirstOrThrow();
      const expiresAtS = Math.floor(Date.now() / 1000) + 3600;
      return `${url}/v0/jobs/${id}/logs?token=${signBuildToken(secrets.logTokenSecret, { buildId, expiresAtS })}`;
    },
    uploads: async () => (await readdir(directory)).filter((name) => name.startsWith('.tmp-')).length,
    closeApp: () => app.close(),
    async close() {
      await app.close();
      await engine.stop();
      await notifications.close();
      await close();
      await drop();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return rig;
}

function collect(lines: Record<string, unknown>[]): Writable {
  return new Writable({
    write(line: Buffer, _encoding, done) {
      lines.push(JSON.parse(line.toString()));
      done();
    },
  });
}
