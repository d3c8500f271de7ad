import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMicrovmDriver, type MicrovmDriverOptions } from '../microvm-driver.ts';
import type { DriverUnderTest } from './hostile-suite.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { testKitsDir } from './test-kit.ts';
import { makeTinyImage } from './tiny-image.ts';

/** A microvm driver on a fresh data directory with a tiny image. Emulated, since that works everywhere. */
export async function openMicrovmTestDriver(options: Partial<MicrovmDriverOptions> = {}): Promise<DriverUnderTest> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
  const imageDir = join(dataDir, 'layers', 'tiny', 'diff');
  await makeTinyImage(imageDir);
  const driver = await createMicrovmDriver({
    dataDir,
    kitsDir: testKitsDir,
    accelerator: 'tcg',
    networkPoolSize: 0,
    clonePoolSize: 0,
    ...options,
  });
  return {
    driver,
    dataDir,
    imageDir,
    spec: (capsuleId, changes = {}) => ({
      ...smallSpec,
      capsuleId,
      layers: [imageDir],
      hostname: capsuleId,
      ...changes,
    }),
    async end() {
      for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
      await driver.close();
      await expectNothingLeft(dataDir);
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

const smallSpec = {
  shape: { cpus: 1, memoryBytes: 128 * 1024 * 1024, diskBytes: 1024 ** 3, pids: 64 },
  egress: 'none',
  readOnlyBinds: [],
} as const;
