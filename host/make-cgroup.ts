import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { type CgroupLimits, limitCgroup } from './cgroup-limits.ts';

const v1Controllers = ['memory', 'pids', 'cpu', 'cpuacct', 'freezer'];

/**
 * Makes a control group with its limits, in every hierarchy that is needed. Returns the files a process writes `0` to in order to join
 * it. Throws `provision_failed`.
 */
export async function makeCgroup(
  hierarchy: CgroupHierarchy,
  path: string,
  limits: CgroupLimits,
): Promise<readonly string[]> {
  const { mode, roots, controllers } = hierarchy;
  const root = roots[0] ?? '/sys/fs/cgroup';
  const used = mode === 'v2' ? [root] : v1Controllers.flatMap((name) => controllers.get(name) ?? []);
  // Several controllers can be mounted together.
  const groups = [...new Set(used)].map((each) => join(each, path));
  try {
    for (const group of groups) await mkdir(group, { recursive: true });
    if (mode === 'v2') await delegateControllers(root, path);
    await limitCgroup(hierarchy, path, limits);
  } catch (cause) {
    throw new AppError('provision_failed', `the control group ${path} cannot be made: ${cause}`, { cause });
  }
  return groups.map((group) => join(group, 'cgroup.procs'));
}

/** With cgroup v2 a group has only the controllers that those above it pass on. */
async function delegateControllers(root: string, path: string): Promise<void> {
  for (const parent of parentsOf(path))
    await writeFile(join(root, parent, 'cgroup.subtree_control'), '+memory +cpu +pids');
}

/** From the root (an empty name) down to the group that holds the last one. */
function parentsOf(path: string): readonly string[] {
  const parents: string[] = [];
  for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) parents.unshift(parent);
  return ['', ...parents];
}
