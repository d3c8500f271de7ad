import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type DriverUnderTest, openDriverRig } from './driver-rig.ts';
import { runInside } from './test-driver.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(problem !== null)('a clone of a template', () => {
  let test: DriverUnderTest;
  beforeAll(async () => {
    test = await openDriverRig((dataDir) => createEmulatedDriver({ dataDir }));
  });
  afterAll(() => test.end());

  it('has random numbers, a machine id and a name of its own, and the time of now, whatever runs first', async () => {
    const read = 'head -c 16 /dev/urandom | md5sum; cat /etc/machine-id; cat /etc/hostname; date +%s';
    const seen: string[][] = [];
    for (let batch = 0; batch < 10; batch++) {
      const machines = await Promise.all(
        [0, 1, 2, 3, 4].map((each) => test.driver.create(test.spec(`clone-${batch}-${each}`))),
      );
      const said = await Promise.all(machines.map((machine) => runInside(machine, read)));
      seen.push(...said.map(({ stdout }) => stdout.trim().split('\n')));
      await Promise.all(machines.map((machine) => machine.destroy()));
    }
    for (const column of [0, 1, 2]) expect(new Set(seen.map((lines) => lines[column])).size).toBe(50);
    expect(seen.every((lines) => /^[0-9a-f]{32}$/.test(lines[1] ?? ''))).toBe(true);
    const ages = seen.map((lines) => Date.now() / 1_000 - Number(lines[3]));
    expect(Math.max(...ages.map(Math.abs))).toBeLessThan(300);
  });

  it('comes from one that was booted once for its shape', async () => {
    const directory = join(test.dataDir, 'templates');
    const names = await readdir(directory);
    expect(names).toHaveLength(1);
    const before = await stat(join(directory, names[0] ?? '', 'ram'));
    const machine = await test.driver.create(test.spec('again'));
    await runInside(
      machine,
      'dd if=/dev/zero of=/tmp/file bs=1M count=8; head -c 4000000 /dev/urandom > /dev/shm/noise',
    );
    await machine.destroy();
    const after = await stat(join(directory, names[0] ?? '', 'ram'));
    expect([after.ino, after.mtimeMs, after.blocks]).toEqual([before.ino, before.mtimeMs, before.blocks]);
    expect(after.mode & 0o777).toBe(0o444);
  });
});
