import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createMicrovmDriver } from '../microvm-driver.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { microvmProblem, testKitsDir } from './test-kit.ts';
import { makeTinyImage } from './tiny-image.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000 });

interface Places {
  readonly stateDir: string;
  readonly runDir: string;
}

/** How far a host has come with a machine when it is killed, by what can be seen from outside. */
const moments: Readonly<Record<string, (places: Places) => Promise<boolean>>> = {
  'has noted it': ({ stateDir }) => exists(join(stateDir, 'state.json')),
  'makes its disk': ({ stateDir }) => exists(join(stateDir, 'disk')),
  'has noted its QEMU': async ({ stateDir }) =>
    /"pid"/.test(await readFile(join(stateDir, 'state.json'), 'utf8').catch(() => '')),
  'waits for its control socket': ({ runDir }) => exists(join(runDir, 'qmp.sock')),
  'has let it run': async ({ runDir }) =>
    (await stat(runDir).catch(() => null))?.uid === 0 && exists(join(runDir, 'qmp.sock')),
};

describe.skipIf(problem !== null)('a host killed when it', () => {
  it.each(Object.entries(moments))('%s leaves nothing the next one does not find and remove', async (_, reached) => {
    const dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const imageDir = join(dataDir, 'layers', 'tiny', 'diff');
    await makeTinyImage(imageDir);
    // Founds the installation, whose id names the run directory.
    await (await openDriver(dataDir)).close();
    const { installationId } = JSON.parse(await readFile(join(dataDir, 'installation.json'), 'utf8'));
    const places = { stateDir: join(dataDir, 'capsules/orphan'), runDir: `/run/caisson/${installationId}/orphan` };

    const childPath = join(import.meta.dirname, 'microvm-host-child.ts');
    const words = ['--data-dir', dataDir, '--kits-dir', testKitsDir, '--image', imageDir];
    const child = spawn(process.execPath, [childPath, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
    const exit = once(child, 'exit');
    while (!(await reached(places))) await delay(1);
    child.kill('SIGKILL');
    await exit;

    const driver = await openDriver(dataDir);
    expect(await driver.list()).toEqual(['orphan']);
    await driver.destroy('orphan');
    expect(await driver.list()).toEqual([]);
    await driver.close();
    await expectNothingLeft(dataDir);
  });
});

function openDriver(dataDir: string) {
  return createMicrovmDriver({ dataDir, kitsDir: testKitsDir, accelerator: 'tcg' });
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
