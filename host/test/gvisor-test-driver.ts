import { messageOf } from '@caisson/contracts/app-error';
import { type ContainerDriver, type ContainerDriverOptions, createContainerDriver } from '../container-driver.ts';
import { prepareRunsc } from '../runsc-kit.ts';
import { openTestDriver, type TestDriver } from './test-driver.ts';
import { testKitsDir } from './test-kit.ts';

/** Null when gVisor can be tested here, else why not, said aloud. */
export async function gvisorProblem(): Promise<string | null> {
  try {
    if (process.getuid?.() !== 0) throw new Error('that needs root');
    await prepareRunsc({ kitsDir: testKitsDir });
    return null;
  } catch (error) {
    const problem = messageOf(error);
    console.warn(
      `skipped: gVisor (${problem}); install Debian's mmdebstrap and have a Debian archive in the apt sources`,
    );
    return problem;
  }
}

const gvisor = { kitsDir: testKitsDir };

/** A container driver of gVisor on a fresh data directory with a tiny image. */
export function openGvisorTestDriver(): Promise<TestDriver> {
  return openTestDriver({ gvisor });
}

/** One on a data directory that may be there already. */
export function createGvisorDriver(options: Pick<ContainerDriverOptions, 'dataDir'>): Promise<ContainerDriver> {
  return createContainerDriver({ ...options, gvisor, networkPoolSize: 0 });
}
