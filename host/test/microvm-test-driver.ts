import type { MicrovmDriver, MicrovmDriverOptions } from '../microvm-driver.ts';
import { type DriverUnderTest, openDriverRig } from './driver-rig.ts';
import { createEmulatedDriver } from './test-kit.ts';

/** A microvm driver on a fresh data directory with a tiny image. */
export function openMicrovmTestDriver(
  options: Partial<MicrovmDriverOptions> = {},
): Promise<DriverUnderTest<MicrovmDriver>> {
  return openDriverRig((dataDir) => createEmulatedDriver({ dataDir, ...options }));
}
