import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ContainerDriver, createContainerDriver } from '../container-driver.ts';
import { makeDataDir } from './driver-rig.ts';
import { expectNothingLeft, leaveNothing } from './nothing-left.ts';
import { runInside } from './test-driver.ts';

describe('a host process killed by kill -9', () => {
  let dataDir: string;
  let imageDir: string;

  beforeAll(async () => {
    ({ dataDir, imageDir } = await makeDataDir());
  });
  afterAll(() => rm(dataDir, { recursive: true, force: true }));

  it('leaves nothing that the next start does not remove, wherever it was', async () => {
    for (const afterMs of [0, 8, 16, 24, 32, 40, 50, 60, 75, 90, 110, 150]) {
      const child = await startChild('loop');
      await delay(afterMs);
      await kill(child);
      await leaveNothing(await openNext(), dataDir);
    }
  });

  it('leaves blank containers that the next start removes', async () => {
    await kill(await startChild('idle'));
    const { installationId } = JSON.parse(await readFile(join(dataDir, 'installation.json'), 'utf8'));
    const vessels = async () =>
      (await readdir(join('/run/caisson', installationId))).filter((name) => /^v[0-9a-f]{16}$/.test(name));
    expect(await vessels()).toHaveLength(3);
    const driver = await openNext();
    expect(await vessels()).toEqual([]);
    await driver.close();
    await expectNothingLeft(dataDir);
  });

  it('leaves a capsule running that the next process adopts', async () => {
    await kill(await startChild('one'));
    const driver = await openNext();
    expect(await driver.list()).toEqual(['kept']);
    const machine = await driver.adopt('kept');
    if (machine === null) throw new Error('the capsule was not adopted');
    expect((await runInside(machine, 'hostname; ip route | wc -l')).stdout).toBe('crash\n2\n');
    expect(await driver.adopt('kept')).toBe(machine);
    await machine.destroy();
    expect(await driver.adopt('kept')).toBeNull();
    await driver.close();
    await expectNothingLeft(dataDir);
  });

  it('leaves a paused capsule that the next process adopts', async () => {
    await kill(await startChild('one'));
    const first = await openNext();
    const machine = await first.adopt('kept');
    await machine?.pause();
    machine?.guest.close();
    await first.close();
    const second = await openNext();
    const again = await second.adopt('kept');
    expect(again && (await runInside(again, 'hostname')).stdout).toBe('crash\n');
    await again?.destroy();
    await second.close();
    await expectNothingLeft(dataDir);
  });

  async function startChild(mode: string): Promise<ChildProcess> {
    const program = join(import.meta.dirname, 'crash-child.ts');
    const child = spawn(process.execPath, [program, dataDir, imageDir, mode], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ready = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => null)]);
    if (ready === null) throw new Error('the child ended too early');
    return child;
  }

  async function kill(child: ChildProcess): Promise<void> {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  function openNext(): Promise<ContainerDriver> {
    return createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
  }
});
