import { access, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';

/** What one QEMU may take of the host, all in all. */
export interface CgroupLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly pids: number;
}

const periodUs = 100_000;
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
  try {
    return await (hierarchy.mode === 'v2' ? makeUnified : makeControllers)(hierarchy, path, limits);
  } catch (cause) {
    throw new AppError('provision_failed', `the control group ${path} cannot be made: ${cause}`, { cause });
  }
}

async function makeUnified({ roots }: CgroupHierarchy, path: string, limits: CgroupLimits): Promise<readonly string[]> {
  const root = roots[0] ?? '/sys/fs/cgroup';
  const group = join(root, path);
  await mkdir(group, { recursive: true });
  for (const parent of parentsOf(path))
    await writeFile(join(root, parent, 'cgroup.subtree_control'), '+memory +cpu +pids');
  await writeFile(join(group, 'memory.max'), String(limits.memoryBytes));
  await writeIfThere(join(group, 'memory.swap.max'), '0');
  await writeFile(join(group, 'cpu.max'), `${quotaOf(limits)} ${periodUs}`);
  await writeFile(join(group, 'pids.max'), String(limits.pids));
  return [join(group, 'cgroup.procs')];
}

/** From the root (an empty name) down to the group that holds the last one. */
function parentsOf(path: string): readonly string[] {
  const parents: string[] = [];
  for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) parents.unshift(parent);
  return ['', ...parents];
}

async function makeControllers(
  { controllers }: CgroupHierarchy,
  path: string,
  limits: CgroupLimits,
): Promise<readonly string[]> {
  const group = (controller: string) => join(controllers.get(controller) ?? '/sys/fs/cgroup', path);
  // Several controllers can be mounted together.
  const groups = [...new Set(v1Controllers.filter((name) => controllers.has(name)).map(group))];
  for (const directory of groups) await mkdir(directory, { recursive: true });
  await writeFile(join(group('memory'), 'memory.limit_in_bytes'), String(limits.memoryBytes));
  await writeIfThere(join(group('memory'), 'memory.memsw.limit_in_bytes'), String(limits.memoryBytes));
  await writeFile(join(group('cpu'), 'cpu.cfs_period_us'), String(periodUs));
  await writeFile(join(group('cpu'), 'cpu.cfs_quota_us'), String(quotaOf(limits)));
  await writeFile(join(group('pids'), 'pids.max'), String(limits.pids));
  return groups.map((directory) => join(directory, 'cgroup.procs'));
}

function quotaOf({ cpus }: CgroupLimits): number {
  return Math.max(1_000, Math.round(cpus * periodUs));
}

/** The kernel may have been started without it. */
async function writeIfThere(path: string, text: string): Promise<void> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (isThere) await writeFile(path, text);
}
