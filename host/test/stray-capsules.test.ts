import { expect, it, onTestFinished } from 'vitest';
import { createContainerDriver } from '../container-driver.ts';
import { removeTree } from '../layer-tree.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { makeDataDir } from './driver-rig.ts';
import { openHostRig } from './host-rig.ts';
import { smallSpec } from './small-spec.ts';

it('a capsule of no run that cannot be removed is told of and tried again, and keeps no host from its work', async () => {
  const { dataDir, imageDir } = await makeDataDir();
  onTestFinished(() => removeTree(dataDir));
  const container = await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
  await container.create(smallSpec('stray', imageDir));
  let failures = 2;
  const driver: MachineDriver = {
    ...container,
    async destroy(capsuleId) {
      if (capsuleId === 'stray' && failures-- > 0) throw new Error('it is busy');
      await container.destroy(capsuleId);
    },
  };
  const lines: string[] = [];
  const rig = await openHostRig(dataDir, { driver, warn: (line) => lines.push(line) });
  expect(lines).toEqual([expect.stringMatching(/capsule stray .*it is busy/)]);
  expect(await rig.run('true')).toMatchObject({ exitCode: 0 });
  expect(await container.list()).toEqual(['stray']);
  await rig.host.heartbeat();
  await expect.poll(() => lines.length).toBe(2);
  await rig.host.heartbeat();
  await expect.poll(() => container.list()).toEqual([]);
  expect(lines).toHaveLength(2);
  await rig.end();
});
