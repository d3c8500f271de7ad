import { type ContainerDriver, type ContainerDriverOptions, createContainerDriver } from '../container-driver.ts';
import { prepareRunsc } from '../runsc-kit.ts';
import { openTestDriver, type TestDriver } from './test-driver.ts';
import { problemOf, testKitsDir } from './test-kit.ts';

/** Null when gVisor can be tested here, else why not, said aloud. */
export function gvisorProblem(): Promise<string | null> {
  return problemOf('gVisor', () => prepareRunsc({ kitsDir: testKitsDir }));
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
