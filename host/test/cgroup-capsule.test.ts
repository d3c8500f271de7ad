import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCgroup } from '../cgroup-capsule.ts';
import { type CgroupHierarchy, readCgroupHierarchy } from '../cgroup-hierarchy.ts';

const here = await readCgroupHierarchy();
const mountinfo = await readFile('/proc/self/mountinfo', 'utf8');
const unifiedRoot = / (\S+) \S+ - cgroup2 /.exec(mountinfo)?.[1];
const unified: CgroupHierarchy = { mode: 'v2', roots: [unifiedRoot ?? ''], controllers: new Map() };
if (unifiedRoot === undefined) console.warn('skipped: the unified cgroup tree, since it is not mounted');

describe.each([
  ['of this machine', here, true],
  ['of the unified tree', unified, unifiedRoot !== undefined],
] as const)('a control group %s', (name, hierarchy, isHere) => {
  const path = `caisson-test-${process.pid}-${name.length}`;

  it.runIf(isHere)('freezes, thaws and kills its processes, frozen or not, and goes', async () => {
    const groups = hierarchy.roots.map((root) => join(root, path));
    await Promise.all(groups.map((group) => mkdir(join(group, 'nested'), { recursive: true })));
    const child = spawn('/bin/sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' });
    const dead = once(child, 'exit');
    const writable = groups.filter((group) => !group.includes('cpuset'));
    await Promise.all(writable.map((group) => writeFile(join(group, 'cgroup.procs'), String(child.pid))));
    const cgroup = openCgroup(hierarchy, path);

    expect(await cgroup.processes()).toEqual([child.pid]);
    await cgroup.freeze();
    const ticks = await cpuTicks(child.pid);
    await new Promise((done) => setTimeout(done, 50));
    expect(await cpuTicks(child.pid)).toBe(ticks);
    await cgroup.thaw();
    await expect.poll(() => cpuTicks(child.pid)).toBeGreaterThan(ticks);
    await cgroup.freeze();
    await cgroup.killAll(5_000);
    await dead;
    expect(await cgroup.processes()).toEqual([]);
    await cgroup.remove();
    await cgroup.remove();
    expect(groups.filter((group) => existsSync(group))).toEqual([]);
    expect(await cgroup.outOfMemory()).toBe(false);
    expect(await cgroup.processes()).toEqual([]);
  });
});

async function cpuTicks(pid: number | undefined): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
