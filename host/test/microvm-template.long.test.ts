import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { watchCrashPoints } from '@caisson/contracts/crash-point';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { MicrovmDriver } from '../microvm-driver.ts';
import { type DriverUnderTest, openDriverRig } from './driver-rig.ts';
import { runInside } from './test-driver.ts';
import { createEmulatedDriver, microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** Looks first at what no two may have in common. */
const read = 'head -c 16 /dev/urandom | md5sum; cat /etc/machine-id; cat /etc/hostname; date +%s';
const [batches, atOnce] = [10, 5];

describe.skipIf(problem !== null)('a clone of a template', () => {
  let test: DriverUnderTest<MicrovmDriver>;
  beforeAll(async () => {
    test = await openDriverRig((dataDir) => createEmulatedDriver({ dataDir }));
  });
  afterAll(() => test.end());

  it('has random numbers, a machine id and a name of its own, and the time of now, whatever runs first', async () => {
    const seen: string[][] = [];
    for (let batch = 0; batch < batches; batch++) seen.push(...(await lookInside(test, `clone-${batch}`)));
    expectDistinct(seen);
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

describe.skipIf(problem !== null)('a clone that was whole but for its name', () => {
  it('has them as well', async () => {
    const test = await openDriverRig((dataDir) => createEmulatedDriver({ dataDir, clonePoolSize: atOnce }));
    let taken = 0;
    watchCrashPoints((name) => {
      taken += name === 'microvm.fitted-taken' ? 1 : 0;
    });
    while ((await test.driver.clonesReady(test.spec(''))) < atOnce) await lookInside(test, 'before');
    taken = 0;
    const seen: string[][] = [];
    for (let batch = 0; batch < batches; batch++) {
      expect(await test.driver.clonesReady(test.spec(''))).toBe(atOnce);
      seen.push(...(await lookInside(test, `fitted-${batch}`)));
    }
    watchCrashPoints(() => {});
    expect(taken).toBe(batches * atOnce);
    expectDistinct(seen);
    await test.end();
  });
});

async function lookInside({ driver, spec }: DriverUnderTest, name: string): Promise<readonly string[][]> {
  const ids = Array.from({ length: atOnce }, (_, index) => `${name}-${index}`);
  const machines = await Promise.all(ids.map((id) => driver.create(spec(id))));
  const said = await Promise.all(machines.map((machine) => runInside(machine, read)));
  await Promise.all(machines.map((machine) => machine.destroy()));
  return said.map(({ stdout }) => stdout.trim().split('\n'));
}

function expectDistinct(seen: readonly string[][]): void {
  for (const column of [0, 1, 2]) expect(new Set(seen.map((lines) => lines[column])).size).toBe(batches * atOnce);
  expect(seen.every((lines) => /^[0-9a-f]{32}$/.test(lines[1] ?? ''))).toBe(true);
  const ages = seen.map((lines) => Date.now() / 1_000 - Number(lines[3]));
  expect(Math.max(...ages.map(Math.abs))).toBeLessThan(300);
}
