import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { CapsuleShape, RunResult } from '@caisson/contracts/host-api';
import { createDiskWatch, type DiskWatchOptions } from '../disk-watch.ts';
import { noHistory, startRun } from '../run.ts';
import { createJournal } from '../run-journal.ts';
import type { Provisioner } from '../run-provision.ts';
import type { TestDriver } from './test-driver.ts';

export interface HostileRun {
  readonly text: string;
  readonly shape?: Partial<CapsuleShape>;
  readonly timeoutMs?: number;
}

interface HostileResult {
  readonly result: RunResult;
  readonly output: string;
}

const shape: CapsuleShape = { cpus: 1, memoryBytes: 64 * 2 ** 20, diskBytes: 2 ** 30, pids: 64 };

/** Carries out jobs the way the host does, on the tiny image and without a store of layers. */
export function hostileRunner(test: TestDriver, watch: DiskWatchOptions) {
  const diskWatch = createDiskWatch(watch);
  return async ({ text, shape: changes, timeoutMs = 20_000 }: HostileRun): Promise<HostileResult> => {
    const capsuleId = randomUUID();
    const journal = await createJournal(join(test.dataDir, 'runs'), {
      leaseId: randomUUID(),
      fence: 1,
      capsuleId,
      work: { kind: 'shell', text },
      base: { image: 'tiny' },
      shape: { ...shape, ...changes },
      sourceDigest: null,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      timeoutMs,
      graceMs: 500,
      maxOutputBytes: 2 ** 20,
      sealAs: null,
      egress: 'none',
    });
    const run = startRun({ provisioner: provisioner(test), diskWatch, onRecord: () => {} }, journal, noHistory);
    await run.finished;
    const { records } = await journal.read(0, Number.MAX_SAFE_INTEGER);
    await journal.remove();
    const last = records.at(-1)?.event;
    if (last?.kind !== 'finished') throw new Error('the run has no result');
    const outputs = records.map(({ event }) => (event.kind === 'output' ? Buffer.from(event.bytes).toString() : ''));
    return { result: last.result, output: outputs.join('') };
  };
}

function provisioner({ driver, spec }: TestDriver): Provisioner {
  return {
    adopt: async () => null,
    provision: ({ capsuleId, shape }) => driver.create(spec(capsuleId, { shape, hostname: 'hostile' })),
    async seal() {},
    async checkMemory() {},
    discard: (capsuleId) => driver.destroy(capsuleId),
    list: () => driver.list(),
  };
}
