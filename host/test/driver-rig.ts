import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineDriver, MachineSpec } from '../machine-driver.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { smallSpec } from './small-spec.ts';
import { makeTinyImage } from './tiny-image.ts';

/** A driver on a directory of its own, as the suites of every driver want it. */
export interface DriverUnderTest<Driver extends MachineDriver = MachineDriver> {
  readonly driver: Driver;
  readonly dataDir: string;
  /** A root filesystem with busybox, to use as the lowest layer. */
  readonly imageDir: string;
  /** What `create` takes, with a small shape and no network unless asked for. */
  spec(capsuleId: string, changes?: Partial<MachineSpec>): MachineSpec;
  /** Destroys every capsule, closes the driver, fails when anything is left and removes the directory. */
  end(): Promise<void>;
}

/** A driver on a fresh data directory with a tiny image. */
export async function openDriverRig<Driver extends MachineDriver>(
  open: (dataDir: string) => Promise<Driver>,
): Promise<DriverUnderTest<Driver>> {
  const { dataDir, imageDir } = await makeDataDir();
  const driver = await open(dataDir);
  return {
    driver,
    dataDir,
    imageDir,
    spec: (capsuleId, changes) => smallSpec(capsuleId, imageDir, changes),
    async end() {
      for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
      await driver.close();
      await expectNothingLeft(dataDir);
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** A fresh data directory with a tiny image in it, for whoever opens several drivers on it, and removes it. */
export async function makeDataDir(): Promise<{ readonly dataDir: string; readonly imageDir: string }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
  const imageDir = join(dataDir, 'layers', 'tiny', 'diff');
  await makeTinyImage(imageDir);
  return { dataDir, imageDir };
}
