import { expect, it } from 'vitest';
import { parseCgroupMounts } from '../cgroup-hierarchy.ts';

const unified = '30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate';
const memory = '31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory';
const cpu = '32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct';
const beside = '33 24 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw';

it('recognizes the unified layout', () => {
  expect(parseCgroupMounts(unified)).toMatchObject({ mode: 'v2', roots: ['/sys/fs/cgroup'] });
});

it('recognizes controllers of their own, also several on one mount', () => {
  const hierarchy = parseCgroupMounts([memory, cpu].join('\n'));
  expect(hierarchy).toMatchObject({ mode: 'v1', roots: ['/sys/fs/cgroup/memory', '/sys/fs/cgroup/cpu,cpuacct'] });
  expect(hierarchy.controllers.get('cpuacct')).toBe('/sys/fs/cgroup/cpu,cpuacct');
});

it('recognizes the hybrid layout and cleans up in all of it', () => {
  const hierarchy = parseCgroupMounts([memory, beside].join('\n'));
  expect(hierarchy).toMatchObject({ mode: 'hybrid', roots: ['/sys/fs/cgroup/memory', '/sys/fs/cgroup/unified'] });
});

it('finds none where none is mounted', () => {
  expect(parseCgroupMounts('22 1 8:1 / / rw - ext4 /dev/sda1 rw').roots).toEqual([]);
});
