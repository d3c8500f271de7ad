import { copyFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '@caisson/contracts/app-error';
import { chooseAccelerator } from '../accelerator-probe.ts';
import { createMicrovmDriver, type MicrovmDriver, type MicrovmDriverOptions } from '../microvm-driver.ts';
import { prepareQemuKit } from '../qemu-kit.ts';

export const cacheDir = join(tmpdir(), 'caisson-test-cache');
/** Where tests keep QEMU: fetched once per machine. */
export const testKitsDir = join(cacheDir, 'kits');

/** Null when micro-virtual machines can be tested here, else why not, said aloud. */
export function microvmProblem(): Promise<string | null> {
  return problemOf('micro-virtual machines', () => prepareQemuKit({ kitsDir: testKitsDir }));
}

/** Null when what a driver needs is here, or could be fetched, else why not, said aloud. */
export async function problemOf(what: string, prepare: () => Promise<unknown>): Promise<string | null> {
  try {
    if (process.getuid?.() !== 0) throw new Error('that needs root');
    await prepare();
    return null;
  } catch (error) {
    const problem = messageOf(error);
    const advice = "install Debian's mmdebstrap and have a Debian archive in the apt sources";
    console.warn(`skipped: ${what} (${problem}); ${advice}`);
    return problem;
  }
}

/** A microvm driver that keeps nothing ready unless told to. Emulated, since that works everywhere. */
export function createEmulatedDriver(
  options: Partial<MicrovmDriverOptions> & Pick<MicrovmDriverOptions, 'dataDir'>,
): Promise<MicrovmDriver> {
  return createMicrovmDriver({
    ...{ kitsDir: testKitsDir, accelerator: 'tcg', networkPoolSize: 0, clonePoolSize: 0 },
    ...options,
  });
}

/** Has a driver's directory know which accelerator works, found once per boot of the machine for all tests. */
export async function seedAccelerator(microvmDir: string): Promise<void> {
  const dataDir = join(cacheDir, 'accelerator');
  await chooseAccelerator({ dataDir, kitsDir: testKitsDir });
  await mkdir(microvmDir, { recursive: true });
  await copyFile(join(dataDir, 'accelerator-probe.json'), join(microvmDir, 'accelerator-probe.json'));
}
