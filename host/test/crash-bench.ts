import { closeSync, constants, openSync, readSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { findProcess, waitUntilDead } from '../container-process.ts';
import { removeTree } from '../layer-tree.ts';
import { leaked, type ResourceSnapshot, snapshotResources } from '../leak-check.ts';
import { runProgram } from '../run-program.ts';
import { type CrashAt, startCrashHost } from './crash-host.ts';
import { openScene, renderScript, type SceneName } from './crash-scene.ts';
import { expectNothingLeft } from './nothing-left.ts';

/** Hosts that are killed one after the other, and what is done between two of them. */
export interface Crashes {
  readonly scene: SceneName;
  /** Where each host ends itself; null: killed while it has nothing to do. */
  readonly at: readonly (CrashAt | null)[];
  /** Done to the data directory while no host has it. */
  readonly between?: 'stray capsule' | 'no skeleton' | 'capsules die';
}

/** One data directory on which hosts live and die. */
export interface CrashBench {
  /** Lets the hosts die as told and the last one finish, and checks what came of it. Throws when a point is not reached. */
  run(crashes: Crashes): Promise<void>;
  /** Ends the last host in order; nothing is left on the machine. */
  close(): Promise<void>;
}

const settleMs = 15_000;

export async function openCrashBench(image: string | null): Promise<CrashBench> {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-crash-'));
  const [dataDir, effectsDir, pipelineDir] = ['data', 'effects', 'pipeline'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  await chmod(dir, 0o755);
  for (const path of [dataDir, effectsDir, join(pipelineDir, 'render')]) await mkdir(path, { recursive: true });
  await writeFile(join(pipelineDir, 'render/render-main.ts'), renderScript);
  const pipe = await openPipe(join(effectsDir, 'pipe'));
  const settings = { dataDir, effectsDir, pipelineDir, socketPath: join(dir, 'host') };
  const start = (crashAt: CrashAt | null) => startCrashHost({ ...settings, crashAt });
  let host = await start(null);
  const before = { files: await filesOf(dataDir), resources: await snapshotResources(dataDir) };
  return {
    async run({ scene: name, at: [first = null, ...later], between }) {
      if (name === 'render') await removeTree(join(dataDir, 'tools'));
      const scene = await openScene(name, { image, pulledLayers: () => pulledLayers(dataDir) });
      const die = async (crashAt: CrashAt) => {
        if (await scene.drive(host)) throw new Error(`${crashAt.point} was not passed ${crashAt.hit} times`);
        expect(await host.ended).toBe('SIGKILL');
      };
      if (first === null) await host.kill();
      else {
        await host.arm(first);
        await die(first);
      }
      if (between === 'stray capsule') await mkdir(join(dataDir, 'capsules/stray/upper'), { recursive: true });
      if (between === 'no skeleton') await removeTree(join(dataDir, 'skeleton-1'));
      if (between === 'capsules die') await killCapsules(dataDir);
      for (const crashAt of later) {
        host = await start(crashAt);
        if (crashAt !== null) await die(crashAt);
      }
      host = await start(null);
      expect(await scene.drive(host)).toBe(true);
      scene.check(pipe.read());
      await nothingNew(dataDir, before);
    },
    async close() {
      await host.close();
      pipe.close();
      await expectNothingLeft(dataDir);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Ends the init of every capsule, as a lack of memory or a careless operator would. */
async function killCapsules(dataDir: string): Promise<void> {
  const { installationId } = JSON.parse(await readFile(join(dataDir, 'installation.json'), 'utf8'));
  for (const capsuleId of await readdir(join(dataDir, 'capsules'))) {
    const { vesselId } = JSON.parse(await readFile(join(dataDir, 'capsules', capsuleId, 'state.json'), 'utf8'));
    const init = await findProcess(
      Number(await readFile(join('/run/caisson', installationId, vesselId, 'pid'), 'utf8')),
    );
    if (init === null) continue;
    process.kill(init.pid, 'SIGKILL');
    await waitUntilDead(init);
  }
}

/** A named pipe whose lines come from inside the capsules, and are here when the writer goes on. */
async function openPipe(path: string): Promise<{ read(): readonly string[]; close(): void }> {
  await runProgram(['mkfifo', '-m', '666', path]);
  // Also open for writing: otherwise it would end with each writer.
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  return {
    read() {
      const buffer = Buffer.alloc(65_536);
      try {
        const length = readSync(descriptor, buffer);
        return buffer.toString('utf8', 0, length).trimEnd().split('\n');
      } catch {
        return [];
      }
    },
    close: () => closeSync(descriptor),
  };
}

/** What a data directory holds, without what is inside of layers and what is kept for later: images' records and tools. */
async function filesOf(dataDir: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of await readdir(dataDir)) {
    const names = await readdir(join(dataDir, name)).catch(() => []);
    const isCache = name === 'images' || name === 'tools';
    found.push(...names.filter((each) => !isCache || /tmp/.test(each)).map((each) => `${name}/${each}`));
    if (!isCache && !name.startsWith('skeleton')) found.push(name);
    if (name !== 'layers') continue;
    for (const layer of names)
      for (const holder of await readdir(join(dataDir, name, layer, 'holders')).catch(() => []))
        found.push(`${name}/${layer} held by ${holder}`);
  }
  return found.toSorted();
}

async function pulledLayers(dataDir: string): Promise<readonly string[]> {
  const names = await readdir(join(dataDir, 'layers'));
  const texts = await Promise.all(names.map((name) => readFile(join(dataDir, 'layers', name, 'meta.json'), 'utf8')));
  return texts.map((text) => String(JSON.parse(text).layerId)).filter((layerId) => layerId.startsWith('image-'));
}

async function nothingNew(
  dataDir: string,
  before: { files: readonly string[]; resources: ResourceSnapshot },
): Promise<void> {
  const deadlineMs = Date.now() + settleMs;
  for (;;) {
    const files = await filesOf(dataDir);
    const resources = leaked(before.resources, await snapshotResources(dataDir));
    if (resources.length === 0 && files.join() === before.files.join()) return;
    // A network slot is given back behind the run's end.
    if (Date.now() > deadlineMs) return expect([files, resources]).toEqual([before.files, []]);
    await delay(20);
  }
}
