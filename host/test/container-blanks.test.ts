import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createBlankPool } from '../container-blanks.ts';
import { findProcess, waitUntilDead } from '../container-process.ts';
import type { Vessel } from '../container-vessel.ts';
import type { MachineSpec } from '../machine-driver.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { openTestDriver, runInside, type TestDriver } from './test-driver.ts';

describe('blank vessels', () => {
  it('are no capsules, become them, and are gone when the driver closes', async () => {
    const test = await openTest();
    expect(await test.driver.blanksReady()).toBe(4);
    expect(await test.driver.list()).toEqual([]);
    const blanks = await vesselsOf(test);
    expect(blanks).toHaveLength(4);
    for (const egress of ['none', 'internet'] as const) {
      const machine = await test.driver.create(test.spec(egress, { egress }));
      expect(blanks).toContain(await vesselOf(test, egress));
      expect((await runInside(machine, 'hostname; cat /etc/hostname; ls /bin/sh')).stdout).toBe(
        `${egress}\n${egress}\n/bin/sh\n`,
      );
      expect((await runInside(machine, 'ip -4 -o addr show eth0 2>/dev/null | wc -l')).stdout).toBe(
        egress === 'none' ? '0\n' : '1\n',
      );
    }
    expect(await test.driver.blanksReady()).toBe(4);
    expect((await test.driver.list()).toSorted()).toEqual(['internet', 'none']);
    for (const capsuleId of ['internet', 'none']) await test.driver.destroy(capsuleId);
    await test.driver.close();
    await expectNothingLeft(test.dataDir);
  });

  it('that died are not given out', async () => {
    const test = await openTest();
    await test.driver.blanksReady();
    const dead = await vesselsOf(test);
    for (const vesselId of dead) {
      const path = `/run/caisson/${await installationOf(test)}/${vesselId}/pid`;
      const init = await findProcess(Number(await readFile(path, 'utf8')));
      if (init === null) throw new Error('a vessel is dead');
      process.kill(init.pid, 'SIGKILL');
      await waitUntilDead(init);
    }
    const machine = await test.driver.create(test.spec('alive'));
    expect((await runInside(machine, 'echo here')).stdout).toBe('here\n');
    expect(dead).not.toContain(await vesselOf(test, 'alive'));
    await test.driver.destroy('alive');
  });

  it('see nothing but an empty root before', async () => {
    const test = await openTest();
    await test.driver.blanksReady();
    const [vesselId = ''] = await vesselsOf(test);
    const pid = await readFile(`/run/caisson/${await installationOf(test)}/${vesselId}/pid`, 'utf8');
    expect((await readdir(`/proc/${pid}/root`)).toSorted()).toEqual(['.caisson', 'dev', 'disk', 'etc', 'proc', 'sys']);
    expect(await readdir(`/proc/${pid}/root/disk`)).toEqual([]);
  });
});

describe('the pool of blank vessels', () => {
  it('keeps as many ready as were asked for at once, of the kind that was', async () => {
    const { pool, count } = openPool(20);
    expect(await pool.filled()).toBe(4);
    await Promise.all(Array.from({ length: 6 }, () => pool.take('internet')));
    await pool.filled();
    expect(count).toMatchObject({ none: 2, internet: 12 });
    await pool.take('none');
    expect(await pool.filled()).toBe(8);
    await pool.close();
    expect(count.removed).toBe(8);
  });

  it('keeps no more than it may', async () => {
    const { pool } = openPool(5);
    await Promise.all(Array.from({ length: 9 }, () => pool.take('none')));
    expect(await pool.filled()).toBe(5);
    await pool.close();
  });

  it('goes on when one too many cannot be removed', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { pool, count } = openPool(20, () => Promise.reject(new Error('stuck')));
    const take = async () => {
      const taken = Promise.all(Array.from({ length: 6 }, () => pool.take('none')));
      await vi.advanceTimersByTimeAsync(1_000);
      await taken;
    };
    await take();
    expect(await pool.filled()).toBe(8);
    await vi.advanceTimersByTimeAsync(700_000);
    expect(await pool.filled()).toBe(4);
    expect(count.removed).toBe(4);
  });

  it('of no size starts each on demand', async () => {
    const { pool, count } = openPool(0);
    await pool.take('none');
    expect(await pool.filled()).toBe(0);
    expect(count).toMatchObject({ none: 1, internet: 0 });
    await pool.close();
  });

  it('fails for whoever asks, not before', async () => {
    const pool = createBlankPool({
      max: 4,
      start: () => Promise.reject(new Error('no room')),
      remove: async () => {},
    });
    expect(await pool.filled()).toBe(0);
    await expect(pool.take('none')).rejects.toThrow('no room');
    await pool.close();
  });
});

function openPool(max: number, removed = async () => {}) {
  const count = { none: 0, internet: 0, removed: 0 };
  const init = findProcess(process.pid);
  const pool = createBlankPool({
    max,
    async start(egress: MachineSpec['egress']) {
      count[egress] += 1;
      return { init: await init, guest: { closed: new Promise(() => {}) } } as unknown as Vessel;
    },
    async remove() {
      count.removed += 1;
      await removed();
    },
  });
  return { pool, count };
}

async function openTest(): Promise<TestDriver> {
  const test = await openTestDriver({ blankPoolSize: 4 });
  onTestFinished(() => test.end());
  return test;
}

async function installationOf({ dataDir }: TestDriver): Promise<string> {
  return JSON.parse(await readFile(join(dataDir, 'installation.json'), 'utf8')).installationId;
}

async function vesselsOf(test: TestDriver): Promise<readonly string[]> {
  const names = await readdir(`/run/caisson/${await installationOf(test)}`);
  return names.filter((name) => /^v[0-9a-f]{16}$/.test(name));
}

async function vesselOf({ dataDir }: TestDriver, capsuleId: string): Promise<string> {
  return JSON.parse(await readFile(join(dataDir, 'capsules', capsuleId, 'state.json'), 'utf8')).vesselId;
}
