import { deepStrictEqual } from 'node:assert';
import { leaked, type ResourceSnapshot, snapshotResources } from '../leak-check.ts';
import type { MachineDriver } from '../machine-driver.ts';

/** Fails with the list of what the capsules of `dataDir` left on this machine; `before` is what was there to begin with. */
export async function expectNothingLeft(dataDir: string, before: ResourceSnapshot = new Set()): Promise<void> {
  deepStrictEqual(leaked(before, await snapshotResources(dataDir)), []);
}

/** Destroys every capsule of a driver on `dataDir` and closes it; fails when anything of them is left. */
export async function leaveNothing(driver: MachineDriver, dataDir: string): Promise<void> {
  for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
  deepStrictEqual(await driver.list(), []);
  await driver.close();
  await expectNothingLeft(dataDir);
}
