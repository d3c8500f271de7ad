import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { watchCrashPoints } from '@caisson/contracts/crash-point';
import { connectHost } from '@caisson/contracts/host-client';
import { pino } from 'pino';
import { openEffects } from '../engine/effects.ts';
import type { NewBuild } from '../engine/engine.ts';
import { makeEngine } from '../engine/make-engine.ts';
import { openNotifications } from '../engine/notifications.ts';
import { openDirectoryBlobs } from '../store/blobs.ts';
import { openDatabase } from '../store/database.ts';
import type { CrashSettings } from './crash-plane.ts';
import { testDefaults } from './test-defaults.ts';

// A control plane without doors, in a process that ends itself by SIGKILL at the point it is told.
const { connectionString, hostSockets, blobDir, crashAt }: CrashSettings = JSON.parse(process.argv[2] ?? '');
let reached = 0;
watchCrashPoints((name) => {
  if (name !== crashAt?.point) return;
  reached += 1;
  if (reached === crashAt.hit) process.kill(process.pid, 'SIGKILL');
});

const logger = pino({ level: 'silent' });
const { db } = openDatabase(connectionString);
const engine = await makeEngine({
  db,
  connectionString,
  notifications: await openNotifications(connectionString, logger),
  effects: await openEffects(connectionString, logger),
  blobs: await openDirectoryBlobs(blobDir),
  layerBlobs: await openDirectoryBlobs(join(blobDir, 'layers')),
  defaults: testDefaults,
  logger,
});
for (const hostSocket of hostSockets) {
  engine.attachHost(connectHost({ kind: 'socket', path: hostSocket }));
}

process.on('message', ({ build, cancel }: { build?: NewBuild; cancel?: string }) => {
  if (build !== undefined)
    engine.createBuild(build).catch((error) => {
      report(error);
      process.send?.({ failed: build.message });
    });
  if (cancel !== undefined) engine.cancelBuild(cancel).catch(report);
});
/** Why what the test looks for is missing in the database. */
function report(error: unknown): void {
  process.stderr.write(`control plane ${process.pid}: ${error}\n`);
}
process.once('disconnect', () => process.exit());
process.send?.('ready');
// One that is killed would keep nothing for the next.
flushCompileCache();
