import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, vi } from 'vitest';
import type { Machine } from '../machine-driver.ts';
import { namespacePrefix } from '../network-slot.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { escapeSuite, type Neighbour } from './hostile-suite.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { microvmProblem } from './test-kit.ts';

const run = promisify(execFile);
const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(problem !== null)('with QEMU', () => {
  escapeSuite({ name: 'microvm', open: openMicrovmTestDriver, sharesKernel: false, serveAt: serveBesideQemu });
});

/** Packets for a machine arrive in the namespace of its QEMU, where its guest cannot listen: what can be reached is what is there. */
async function serveBesideQemu({ dataDir }: DriverUnderTest, { capsuleId }: Machine): Promise<Neighbour> {
  const readJson = async (path: string) => JSON.parse(await readFile(join(dataDir, path), 'utf8'));
  const { installationId } = await readJson('installation.json');
  const { networkSlot } = await readJson(`capsules/${capsuleId}/state.json`);
  const namespace = namespacePrefix(installationId) + networkSlot;
  const { stdout } = await run('ip', ['-n', namespace, '-4', 'addr', 'show', 'eth0']);
  const serve = ['nc', '-ll', '-p', '80', '-e', '/bin/echo', 'secret'];
  const server = execFile('ip', ['netns', 'exec', namespace, '/bin/busybox', ...serve]);
  return {
    address: /inet ([\d.]+)/.exec(stdout)?.[1] ?? '',
    async end() {
      const gone = once(server, 'exit');
      server.kill('SIGKILL');
      await gone;
    },
  };
}
