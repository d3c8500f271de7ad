import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CapsuleShape } from '@caisson/contracts/host-api';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { ignoringMissing } from './container-errors.ts';

const cpuPeriodUs = 100_000;
/** One part in so many of a capsule's memory may be in the buffers of its sockets, where these are counted apart. */
const socketBufferShare = 8;

/** What everything in a group may take, all in all. */
export type CgroupLimits = Pick<CapsuleShape, 'memoryBytes' | 'cpus' | 'pids'>;

/** A file of a control group and what to write; `optional` when a kernel may have been built or started without it. */
type Setting = readonly [file: string, value: number | string, presence?: 'optional'];

/** Limits a group that has no limits yet; `path` is below every hierarchy's root. */
export async function limitCgroup(hierarchy: CgroupHierarchy, path: string, limits: CgroupLimits): Promise<void> {
  const groups = hierarchy.mode === 'v2' ? unifiedSettings(limits) : controllerSettings(limits);
  await Promise.all(
    groups.map(async ([controller, settings]) => {
      const root = hierarchy.controllers.get(controller) ?? hierarchy.roots[0] ?? '/sys/fs/cgroup';
      // One after the other: memory with swap cannot be less than memory alone.
      for (const [file, value, presence] of settings) {
        const written = writeFile(join(root, path, file), String(value), { flag: 'r+' });
        await (presence === 'optional' ? ignoringMissing(written) : written);
      }
    }),
  );
}

type Group = readonly [controller: string, settings: readonly Setting[]];

function controllerSettings({ memoryBytes, pids, cpus }: CgroupLimits): readonly Group[] {
  const memory: readonly Setting[] = [
    ['memory.limit_in_bytes', memoryBytes],
    ['memory.memsw.limit_in_bytes', memoryBytes, 'optional'],
    // With cgroup v2 they count as the group's memory; here they count as nobody's without this.
    ['memory.kmem.tcp.limit_in_bytes', Math.floor(memoryBytes / socketBufferShare), 'optional'],
  ];
  const cpu: readonly Setting[] = [
    ['cpu.cfs_period_us', cpuPeriodUs],
    ['cpu.cfs_quota_us', cpuQuotaUs(cpus)],
  ];
  return [
    ['memory', memory],
    ['cpu', cpu],
    ['pids', [['pids.max', pids]]],
  ];
}

function unifiedSettings({ memoryBytes, pids, cpus }: CgroupLimits): readonly Group[] {
  const settings: readonly Setting[] = [
    ['memory.max', memoryBytes],
    ['memory.swap.max', 0, 'optional'],
    ['cpu.max', `${cpuQuotaUs(cpus)} ${cpuPeriodUs}`],
    ['pids.max', pids],
  ];
  return [['', settings]];
}

function cpuQuotaUs(cpus: number): number {
  return Math.max(1_000, Math.round(cpus * cpuPeriodUs));
}
