import { randomUUID } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { removeTree } from '../layer-tree.ts';
import { createMicrovmDriver } from '../microvm-driver.ts';
import { type HostRig, openHostRig } from './host-rig.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { microvmProblem, testKitsDir } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const mebibyte = 2 ** 20;
const shape = { cpus: 1, memoryBytes: 96 * mebibyte, diskBytes: 64 * mebibyte, pids: 64 };

describe.skipIf(problem !== null)('a run in a virtual machine', () => {
  let rig: HostRig;
  let dataDir: string;
  let microvmDir: string;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
    microvmDir = join(dataDir, 'microvm');
    const options = { kitsDir: testKitsDir, accelerator: 'tcg', networkPoolSize: 0 } as const;
    rig = await openHostRig(dataDir, { driver: await createMicrovmDriver({ dataDir: microvmDir, ...options }) });
  });
  afterAll(async () => {
    await rig.end();
    await expectNothingLeft(microvmDir);
    await removeTree(dataDir);
  });

  it('that takes more than it may have ends with the code for it', async () => {
    const [memory, disk] = await Promise.all([
      rig.run('dd if=/dev/zero of=/dev/null bs=200M count=1', { shape }),
      rig.run('dd if=/dev/zero of=/big bs=1M', { shape }),
    ]);
    expect(memory).toMatchObject({ outcome: 'failed', code: 'out_of_memory' });
    expect(disk).toMatchObject({ outcome: 'failed', code: 'disk_full', message: expect.stringContaining('64 MiB') });
  });

  it('on a snapshot that holds memory has nothing to do with what was killed there for want of it', async () => {
    const [sealAs, memory] = [randomUUID(), 'dd if=/dev/zero of=/dev/null bs=200M count=1'];
    const parent = await rig.run(`${memory}; true`, { shape, sealAs, snapshot: 'memory' });
    expect(parent).toMatchObject({ outcome: 'exited', exitCode: 0 });
    const base = { layerId: sealAs, snapshot: 'memory' } as const;
    const failed = await rig.run('exit 3', { shape, base });
    expect(failed).toMatchObject({ outcome: 'exited', exitCode: 3 });
    const killed = await rig.run(memory, { shape, base });
    expect(killed).toMatchObject({ outcome: 'failed', code: 'out_of_memory' });
  });

  it('that takes too long, is canceled, or says too much is held to that', async () => {
    const canceled = rig.assignment('trap "" TERM; echo deaf; sleep 600', { shape, graceMs: 300 });
    await rig.host.startRun(canceled);
    const loud = rig.assignment('yes | head -c 3000000; exit 3', { shape, maxOutputBytes: 100_000 });
    await rig.host.startRun(loud);
    const late = rig.run('sleep 600', { shape, timeoutMs: 1_000 });
    await expect.poll(() => rig.output(canceled.leaseId), { timeout: 120_000 }).toBe('deaf\n');
    await rig.host.cancelRun(canceled, 'canceled');
    expect(await rig.ended(canceled.leaseId)).toEqual({ outcome: 'canceled' });
    expect(await late).toEqual({ outcome: 'timed_out' });
    expect(await rig.ended(loud.leaseId)).toMatchObject({ outcome: 'exited', exitCode: 3 });
    expect(rig.bytes(loud.leaseId).length).toBeLessThanOrEqual(100_000);
  });
});
