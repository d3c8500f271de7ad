import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPointsIn } from '@caisson/contracts/test/crash-points-in';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { MachineDriver } from '../machine-driver.ts';
import { expectCounting } from './counting.ts';
import { makeDataDir } from './driver-rig.ts';
import { leaveNothing } from './nothing-left.ts';
import { smallSpec } from './small-spec.ts';
import { runInside } from './test-driver.ts';
import { cacheDir } from './test-kit.ts';

/** What a capsule is to the next host, if its host was killed in this scene at this point. */
type Fate = 'is gone' | 'runs' | 'sleeps';
export type Fates = Readonly<Record<string, Fate>>;
export type Scene = 'create' | 'fitted' | 'snapshot' | 'suspend';

/** Those in which the host is killed before its capsule does anything. */
const creations: readonly Scene[] = ['create', 'fitted'];

export interface CrashCase {
  readonly scene: Scene;
  readonly point: string;
  readonly fate: Fate;
}

interface CrashSuite {
  readonly driver: 'gvisor' | 'microvm';
  /** Null when the driver can be tested here. */
  readonly problem: string | null;
  readonly open: (options: { readonly dataDir: string }) => Promise<MachineDriver>;
  /** Together they come by every point. */
  readonly cases: readonly CrashCase[];
  /** Where what runs the capsule is killed instead of the host. */
  readonly losses?: readonly CrashCase[];
  /** Which of both are tried; all unless told. */
  readonly isTried?: (each: CrashCase) => boolean;
  /** Makes a case come by its point. */
  readonly prepare?: (dataDir: string, each: CrashCase) => Promise<void>;
}

export function crashCases(scenes: Readonly<Partial<Record<Scene, Fates>>>): readonly CrashCase[] {
  const names = ['create', 'fitted', 'snapshot', 'suspend'] as const;
  return names.flatMap((scene) =>
    Object.entries(scenes[scene] ?? {}).map(([point, fate]): CrashCase => ({ scene, point, fate })),
  );
}

/** Kills a host, or what runs its capsule, at each point of creating a capsule, keeping its memory and waking it. */
export function memoryCrashSuite(suite: CrashSuite): void {
  const { driver: name, problem, open, cases, losses = [], prepare, isTried = () => true } = suite;
  describe.skipIf(problem !== null)(`capsules of the ${name} driver`, () => {
    let dataDir = '';
    let imageDir = '';
    beforeAll(async () => {
      ({ dataDir, imageDir } = await makeDataDir());
    });
    // What a test that failed left is not the next one's.
    afterEach(async () => leaveDirectory(await open({ dataDir })));
    afterAll(() => rm(dataDir, { recursive: true, force: true }));

    it('are killed at every point', async () => {
      // Every point in the driver's own files, so that none is forgotten.
      const points = await crashPointsIn(new URL('../', import.meta.url), (file) => file.startsWith(`${name}-`));
      expect(new Set(cases.map(({ point }) => point))).toEqual(new Set(points));
    });

    it.each(cases.filter(isTried))(
      'whose host is killed at $point ($scene): the next one finds that it $fate',
      async (each) => {
        await prepare?.(dataDir, each);
        expect(await runHost(each, 'host')).toEqual([null, 'SIGKILL']);
        const driver = await open({ dataDir });
        const templates = await readdir(join(dataDir, 'templates')).catch(() => []);
        expect(templates.filter((entry) => entry.endsWith('.new'))).toEqual([]);
        const adopted = await driver.adopt('orphan');
        expect(adopted !== null).toBe(each.fate === 'runs');
        const machine =
          each.fate === 'sleeps'
            ? await driver.memory?.wake(smallSpec('orphan', imageDir, { egress: 'internet' }))
            : adopted;
        if (machine && !creations.includes(each.scene)) await expectCounting(machine, '/dev/shm/count');
        if (machine) expect(await runInside(machine, 'hostname')).toMatchObject({ stdout: 'orphan\n' });
        await leaveDirectory(driver);
      },
    );

    if (losses.length > 0)
      it.each(losses.filter(isTried))('whose machine is killed at $point ($scene) leave nothing', async (each) => {
        expect(await runHost(each, 'qemu')).toEqual([0, null]);
        await leaveDirectory(await open({ dataDir }));
      });

    async function leaveDirectory(driver: MachineDriver): Promise<void> {
      await leaveNothing(driver, dataDir);
      await rm(join(dataDir, 'snapshot'), { recursive: true, force: true });
    }

    async function runHost({ scene, point }: CrashCase, victim: string): Promise<unknown> {
      const childPath = join(import.meta.dirname, 'memory-host-child.ts');
      const places = ['--driver', name, '--data-dir', dataDir, '--image', imageDir];
      const words = [...places, '--scene', scene, '--die-at', point, '--victim', victim];
      const env = { ...process.env, NODE_COMPILE_CACHE: join(cacheDir, 'compiled') };
      const child = spawn(process.execPath, [childPath, ...words], { stdio: ['ignore', 'ignore', 'inherit'], env });
      return once(child, 'exit');
    }
  });
}
