import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { openEffects } from '../server/engine/effects.ts';
import { makeEngine } from '../server/engine/make-engine.ts';
import { openNotifications } from '../server/engine/notifications.ts';
import { openDirectoryBlobs } from '../server/store/blobs.ts';
import { openDatabase } from '../server/store/database.ts';
import { newBuildOf } from '../server/test/pipeline-scope.ts';
import { exited, scriptedHost } from '../server/test/scripted-host.ts';
import { testDefaults } from '../server/test/test-defaults.ts';
import type { BuildRequest, EngineSettings } from './engine-process.ts';

// One control plane with one scripted host; builds what its parent asks for until that lets go.
const { connectionString, ...scope }: EngineSettings = JSON.parse(process.argv[2] ?? '');
const logger = pino({ level: 'error' }, pino.destination(2));
const directory = await mkdtemp(join(tmpdir(), 'caisson-bench-engine-'));
const { db, close } = openDatabase(connectionString);
const notifications = await openNotifications(connectionString, logger);
const engine = await makeEngine({
  ...{ db, connectionString, notifications, logger },
  effects: await openEffects(connectionString, logger),
  blobs: await openDirectoryBlobs(directory),
  layerBlobs: await openDirectoryBlobs(join(directory, 'layers')),
  defaults: { ...testDefaults, jobTimeoutMs: 600_000 },
});
const host = scriptedHost(() => exited(0));
host.description = { ...host.description, capacity: { cpus: 64, memoryBytes: 2 ** 40, diskBytes: 2 ** 50 } };
engine.attachHost(host);

process.on('message', async ({ pipelineIr, count }: BuildRequest) => {
  const ids: string[] = [];
  for (let index = 0; index < count; index++)
    ids.push((await engine.createBuild(newBuildOf(scope, { pipelineIr }))).build.id);
  process.send?.(ids);
});
process.once('SIGINT', () => {});
process.once('disconnect', async () => {
  await engine.stop();
  await notifications.close();
  await close();
  await rm(directory, { recursive: true, force: true });
  process.exit();
});
process.send?.('ready');
