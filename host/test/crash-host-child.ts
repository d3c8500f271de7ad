// A host in a process of its own that ends itself by SIGKILL at the point it is told: everything real, on a tiny image.
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { watchCrashPoints } from '@caisson/contracts/crash-point';
import { serveHostApi } from '@caisson/contracts/host-server';
import { createContainerDriver } from '../container-driver.ts';
import { createHost } from '../host.ts';
import { createImageStore } from '../image-store.ts';
import { createLayerStore } from '../layer-disk.ts';
import type { ImageStore } from '../layer-store.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { makeProvisioner } from '../run-provision.ts';
import { createSourceStore } from '../source-store.ts';
import { clearToolDrafts, createToolsLayer } from '../tools-layer.ts';
import type { CrashAt, CrashHostSettings } from './crash-host.ts';
import { createEmulatedDriver } from './test-kit.ts';
import { makeTinyImage } from './tiny-image.ts';

const settings: CrashHostSettings = JSON.parse(process.argv[2] ?? '');
const { dataDir, effectsDir, pipelineDir, driver: kind = 'container' } = settings;
let crashAt: CrashAt | null = settings.crashAt;
let reached = 0;
watchCrashPoints((name) => {
  if (name !== crashAt?.point) return;
  reached += 1;
  if (reached === crashAt.hit) process.kill(process.pid, 'SIGKILL');
});

const layers = await createLayerStore({ dataDir, budgetBytes: 1e12, graceMs: 0, driver: kind });
await layers.add('tiny', 'image', (directory) => makeTinyImage(directory));
const pulled = await createImageStore({ dataDir, layers });
const images: ImageStore = {
  resolve: async (image, ...rest) =>
    image === 'tiny' ? { layerId: 'tiny', digest: 'tiny', warning: null, env: {} } : pulled.resolve(image, ...rest),
};
const sources = await createSourceStore({ dataDir, layers });
const driver =
  kind === 'microvm' ? await createEmulatedDriver({ dataDir: join(dataDir, 'microvm') }) : await openContainers();
await clearToolDrafts(dataDir);
const tools = () => createToolsLayer({ dataDir, nodeBinary: '/bin/bash', pipelineDir });
const provisioner = makeProvisioner({ driver, layers, images, sources, tools });
const description = {
  hostId: 'crash',
  protocol: 1,
  driver: driver.capabilities,
  capacity: { cpus: 8, memoryBytes: 2 ** 33, diskBytes: 2 ** 36 },
} as const;
const host = await createHost({ description, dataDir, driver, layers, sources, provisioner });
await serveHostApi(host, { kind: 'socket', path: settings.socketPath });

process.on('message', (message: { arm?: CrashAt; close?: true }) => {
  if (message.arm !== undefined) {
    crashAt = message.arm;
    reached = 0;
    process.send?.('armed');
  }
  if (message.close) void host.close({ end: false }).then(() => process.exit());
});
process.once('disconnect', () => process.exit());
process.send?.('ready');
// One that is killed would keep nothing for the next.
flushCompileCache();

/** Every capsule sees the pipe by which its command is heard outside, however its host fares. */
async function openContainers(): Promise<MachineDriver> {
  const container = await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
  return {
    ...container,
    create: (spec) =>
      container.create({ ...spec, readOnlyBinds: [...spec.readOnlyBinds, { from: effectsDir, to: '/effects' }] }),
  };
}
