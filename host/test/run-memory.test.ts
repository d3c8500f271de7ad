import { randomUUID } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { removeTree } from '../layer-tree.ts';
import { type HostRig, openHostRig } from './host-rig.ts';

let dataDir: string;
let rig: HostRig;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
  rig = await openHostRig(dataDir);
});
afterAll(async () => {
  await rig.end();
  await removeTree(dataDir);
});

const memory = { snapshot: 'memory' } as const;

test('a host that cannot keep memory says so before it does anything, and keeps nothing', async () => {
  const sealAs = randomUUID();
  expect(await rig.run('true', { sealAs, ...memory })).toMatchObject({
    ...{ outcome: 'failed', code: 'provision_failed' },
    message: expect.stringMatching(/^this host \(.*\) cannot keep the memory of a capsule$/),
  });
  expect(await rig.layers.stackOf(sealAs)).toBeNull();
});

test('it does not start from memory it cannot have, and says what to do', async () => {
  const sealAs = randomUUID();
  expect(await rig.run('true', { sealAs })).toMatchObject({ exitCode: 0 });
  expect(await rig.run('true', { base: { layerId: sealAs, ...memory } })).toMatchObject({
    ...{ outcome: 'failed', code: 'snapshot_missing' },
    message: expect.stringContaining('run the build again'),
  });
  await rig.host.releaseLayer(sealAs);
});
