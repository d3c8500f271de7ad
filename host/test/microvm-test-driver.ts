import type { MicrovmDriver, MicrovmDriverOptions } from '../microvm-driver.ts';
import { type DriverUnderTest, openDriverRig } from './driver-rig.ts';
import { withSharedTemplates } from './shared-templates.ts';
import { createEmulatedDriver } from './test-kit.ts';

/** A microvm driver on a fresh data directory with a tiny image. */
export function openMicrovmTestDriver(
  options: Partial<MicrovmDriverOptions> = {},
): Promise<DriverUnderTest<MicrovmDriver>> {
  const open = (dataDir: string) => createEmulatedDriver({ dataDir, ...options });
  return openDriverRig((dataDir) => withSharedTemplates(dataDir, open));
}
