import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { microvmProblem, testKitsDir } from '../host/test/test-kit.ts';
import { memoryIr, runOnBoth, startTwoHosts, type TwoHosts } from './two-hosts.ts';

const problem = await microvmProblem();
// Every machine is emulated, on a busy one.
vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

describe.skipIf(problem !== null)('two hosts that keep memory with virtual machines', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await startTwoHosts({ CAISSON_DRIVER: 'microvm', CAISSON_KITS_DIR: testKitsDir });
  });
  afterAll(() => hosts.rig.end());

  test('what a step left running goes on where it was made and where it was brought', async () => {
    for (const log of await runOnBoth(hosts, memoryIr)) expect(log).toContain('goes on\n');
  });
});
