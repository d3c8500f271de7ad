import { deepStrictEqual } from 'node:assert';
import { leaked, type ResourceSnapshot, snapshotResources } from '../leak-check.ts';

/** Fails with the list of what the capsules of `dataDir` left on this machine; `before` is what was there to begin with. */
export async function expectNothingLeft(dataDir: string, before: ResourceSnapshot = new Set()): Promise<void> {
  deepStrictEqual(leaked(before, await snapshotResources(dataDir)), []);
}
