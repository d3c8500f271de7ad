import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { gvisorProblem } from '../host/test/gvisor-test-driver.ts';
import { testKitsDir } from '../host/test/test-kit.ts';
import { ir } from './builds.ts';
import { forks, memoryIr, runOnBoth, startTwoHosts, type TwoHosts } from './two-hosts.ts';

const withoutMemory = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** What overlayfs knows of a disk, and a fork of a fork. */
const diskIr = ir({
  base: ['rm -r /usr/share/doc; mkdir /usr/share/doc; echo made > /made; ln -s made /link; chmod 4755 /made'],
  grown: ['echo grown > /grown', { buildsIn: 'base' }],
  ...Object.fromEntries(
    forks.map((key) => [
      key,
      ['cat /link /grown; stat -c %a /made; ls -A /usr/share/doc | wc -l; sleep 6', { buildsIn: 'grown' }],
    ]),
  ),
});

describe('two hosts with room for a job each', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await startTwoHosts({ CAISSON_DRIVER: 'container' });
  });
  afterAll(() => hosts.rig.end());

  test('one fork runs where its disk was made, the other one where the disk was brought', async () => {
    for (const log of await runOnBoth(hosts, diskIr)) expect(log).toContain('made\ngrown\n4755\n0\n');
  });
});

describe.skipIf(withoutMemory !== null)('two hosts that keep memory with gVisor', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await startTwoHosts({ CAISSON_DRIVER: 'gvisor', CAISSON_KITS_DIR: testKitsDir });
  });
  afterAll(() => hosts.rig.end());

  test('what a step left running goes on where it was made and where it was brought', async () => {
    for (const log of await runOnBoth(hosts, memoryIr)) expect(log).toContain('goes on\n');
  });
});
