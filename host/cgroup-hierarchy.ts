import { readFile } from 'node:fs/promises';

/** How this machine mounts its control groups. `hybrid` is v1 controllers beside an empty v2 tree. */
type CgroupMode = 'v1' | 'v2' | 'hybrid';

export interface CgroupHierarchy {
  readonly mode: CgroupMode;
  /** Directories under which a capsule's group appears: one for v2, one per hierarchy for v1. */
  readonly roots: readonly string[];
  /** Where each v1 controller is mounted; empty for v2. */
  readonly controllers: ReadonlyMap<string, string>;
}

/** Reads the layout from the mount table. An unmounted hierarchy gives mode `v1` without roots. */
export async function readCgroupHierarchy(): Promise<CgroupHierarchy> {
  return parseCgroupMounts(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** The same from the text of `/proc/self/mountinfo`. */
export function parseCgroupMounts(mountinfo: string): CgroupHierarchy {
  const controllers = new Map<string, string>();
  const v1Roots = new Set<string>();
  let unifiedRoot: string | null = null;
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ');
    const mountPoint = left?.split(' ')[4];
    const [type, , options] = right?.split(' ') ?? [];
    if (mountPoint === undefined) continue;
    if (type === 'cgroup2') unifiedRoot ??= mountPoint;
    if (type !== 'cgroup') continue;
    v1Roots.add(mountPoint);
    for (const name of options?.split(',') ?? []) if (!controllers.has(name)) controllers.set(name, mountPoint);
  }
  if (v1Roots.size === 0 && unifiedRoot) return { mode: 'v2', roots: [unifiedRoot], controllers: new Map() };
  const roots = unifiedRoot ? [...v1Roots, unifiedRoot] : [...v1Roots];
  return { mode: unifiedRoot ? 'hybrid' : 'v1', roots, controllers };
}
