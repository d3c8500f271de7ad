import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineDriver, MachineSpec } from '../machine-driver.ts';
import { leaveNothing } from './nothing-left.ts';
import { smallSpec } from './small-spec.ts';
import { makeTinyImage } from './tiny-image.ts';

/** A driver on a directory of its own, as the suites of every driver, and the bench, want it. */
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
  const remove = () => rm(dataDir, { recursive: true, force: true });
  const driver = await open(dataDir).catch(async (error) => {
    await remove();
    throw error;
  });
  return {
    driver,
    dataDir,
    imageDir,
    spec: (capsuleId, changes) => smallSpec(capsuleId, imageDir, changes),
    async end() {
      await leaveNothing(driver, dataDir);
      await remove();
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
