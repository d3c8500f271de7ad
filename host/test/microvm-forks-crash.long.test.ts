import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunAssignment, RunMessage, RunResult } from '@caisson/contracts/host-api';
import { crashPointsIn } from '@caisson/contracts/test/crash-points-in';
import { openSmallDisk } from '@caisson/contracts/test/small-disk';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { removeTree } from '../layer-tree.ts';
import { type CrashAt, type CrashHost, startCrashHost } from './crash-host.ts';
import { openHostRig } from './host-rig.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { testAssignment } from './run-assignment.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** Where a host is killed while it keeps the memory of a run. */
const keeping = [
  ...['command.ended', 'ending.noted', 'microvm.stands', 'microvm.memory-saved', 'seal.stopped', 'seal.described'],
  ...['seal.moved', 'layer.published', 'seal.sealed', 'seal.dropped', 'finished.journaled'],
];
/** And while it begins or ends another that goes on from there: these are passed for the second time. */
const goingOn = [
  ...['provision.layered', 'microvm.vessel-started', 'microvm.claimed', 'microvm.runs', 'provision.created'],
  ...['beginning.noted', 'command.started', 'started.journaled', 'ending.noted'],
];
const crashes = [...keeping.map((point) => ({ point, hit: 1 })), ...goingOn.map((point) => ({ point, hit: 2 }))];

const start = `(i=0; while :; do i=$((i+1)); echo $i > /dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.05; done) &
echo $! > /counter; until [ -e /dev/shm/count ]; do sleep 0.05; done; echo counts`;
const look = 'a=$(cat /dev/shm/count); until [ $(cat /dev/shm/count) -gt $a ]; do sleep 0.1; done; echo counts on';

/** A run and what was heard of it. */
interface Known {
  readonly assignment: RunAssignment;
  readonly messages: RunMessage[];
}

describe.skipIf(problem !== null)('a snapshot that holds memory', () => {
  let dir: string;
  let dataDir: string;
  let image = 0;
  const startHost = (crashAt: CrashAt | null) =>
    startCrashHost({
      ...{ dataDir, effectsDir: '', pipelineDir: dir },
      socketPath: join(dir, 'host'),
      driver: 'microvm',
      crashAt,
    });
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
    dataDir = join(dir, 'data');
    await (await startHost(null)).close();
    image = (await readdir(join(dataDir, 'layers'))).length;
  });
  afterAll(() => removeTree(dir));

  it.each(crashes)(
    'is kept or used once, whole, by the next host of one killed at $point (time $hit)',
    async (crashAt) => {
      const sealAs = randomUUID();
      const parent = runOf(1, start, { sealAs, snapshot: 'memory' });
      const child = runOf(2, look, { base: { layerId: sealAs, snapshot: 'memory' } });
      let host = await startHost(crashAt);
      let deaths = 0;
      for (const run of [parent, child]) {
        while ((await carryOut(host, run)) === null) {
          expect(await host.ended).toBe('SIGKILL');
          deaths += 1;
          host = await startHost(null);
        }
      }
      expect(deaths).toBe(1);
      expect([parent, child].map(heardOf)).toEqual([
        ['started', 'counts\n', 'exited 0'],
        ['started', 'counts on\n', 'exited 0'],
      ]);
      await host.api.releaseLayer(sealAs);
      await expect.poll(() => readdir(join(dataDir, 'layers'))).toHaveLength(image);
      await host.close();
      await expectNothingLeft(join(dataDir, 'microvm'));
      expect(await readdir(join(dataDir, 'runs'))).toEqual([]);
    },
  );

  it('is killed at points that are there', async () => {
    const points = await crashPointsIn(new URL('../', import.meta.url));
    for (const { point } of crashes) expect(points).toContain(point);
  });
});

describe.skipIf(problem !== null)('a snapshot that holds memory, on a disk', () => {
  it('that has no room for it ends its run as `disk_full` and leaves nothing', async () => {
    const disk = await openSmallDisk({ mebibytes: 512, files: 5_000 });
    const { dataDir } = disk;
    const microvmDir = join(dataDir, 'microvm');
    const rig = await openHostRig(dataDir, {
      driver: await createEmulatedDriver({ dataDir: microvmDir }),
      watch: { reserveBytes: 0 },
    });
    const text = 'head -c 30000000 /dev/urandom > /dev/shm/much; sync; echo ready; sleep 5';
    const much = rig.assignment(text, { sealAs: randomUUID(), snapshot: 'memory' });
    await rig.host.startRun(much);
    await expect.poll(() => rig.output(much.leaseId), { timeout: 120_000 }).toBe('ready\n');
    await disk.fill(8_000_000);
    expect(await rig.ended(much.leaseId)).toMatchObject({
      ...{ outcome: 'failed', code: 'disk_full' },
      message: expect.stringContaining('the snapshot could not be kept'),
    });
    expect(await readdir(join(dataDir, 'layers'))).toHaveLength(1);
    await disk.makeRoom();
    await rig.end();
    await expectNothingLeft(microvmDir);
    await disk.end();
  });
});

function runOf(fence: number, text: string, changes: Partial<RunAssignment>): Known {
  const ids = { leaseId: randomUUID(), capsuleId: randomUUID(), fence };
  const base = { image: 'tiny' };
  return { assignment: { ...testAssignment, ...ids, base, work: { kind: 'shell', text }, ...changes }, messages: [] };
}

/** Has the host do what is left of a run; null when it died before the end was heard. */
async function carryOut({ api, ended }: CrashHost, { assignment, messages }: Known): Promise<RunResult | null> {
  const hear = async () => {
    await api.startRun(assignment);
    const listening = new AbortController();
    for await (const message of api.watch(listening.signal)) {
      const { leaseId, fence, seq } = message;
      if (leaseId === assignment.leaseId && seq === messages.length + 1) messages.push(message);
      await api.acknowledge([{ leaseId, fence, seq }]);
      if (leaseId !== assignment.leaseId || message.kind !== 'finished') continue;
      listening.abort();
      return message.result;
    }
    return null;
  };
  const died = ended.then(() => null);
  // What is said to a host that is dying fails a moment before its end is seen.
  return Promise.race([died, hear().catch(() => died)]);
}

function heardOf({ messages }: Known): readonly string[] {
  return messages.flatMap((message) => {
    if (message.kind === 'started') return 'started';
    if (message.kind === 'output') return message.stream === 'meta' ? [] : Buffer.from(message.bytes).toString();
    return message.result.outcome === 'exited' ? `exited ${message.result.exitCode}` : JSON.stringify(message.result);
  });
}
