import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crashPointsIn } from '@caisson/contracts/test/crash-points-in';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CrashBench, type Crashes, openCrashBench } from './crash-bench.ts';
import type { SceneName } from './crash-scene.ts';
import { registryProblem, startRegistry, type TestRegistry, writeLayout } from './image-test-registry.ts';
import { tarOf } from './source-archive.ts';

/** Hosts that live and die beside each other, each on a data directory of its own. */
const benchCount = 3;
const timeoutMs = 120_000;

/** Points that the ordinary job does not come by. */
const scenes: Readonly<Record<string, SceneName>> = {
  'image.made': 'pull',
  'image.recorded': 'pull',
  'image.named': 'pull',
  'tools.filled': 'render',
  'tools.placed': 'render',
  'cancel.taken': 'cancel',
  'canceling.noted': 'cancel',
  'command.canceled': 'cancel',
  'output.marked': 'flood',
};

const at = (point: string, hit = 1) => ({ point, hit });

/** Two runs come by these at least twice, or three times: also the second, a child, is to be hit. */
const laterHits: Readonly<Record<string, readonly number[]>> = {
  ...Object.fromEntries(
    [
      ...['ack.forgotten', 'ack.taken', 'agent.greeted', 'assignment.taken', 'beginning.noted', 'capsule.prepared'],
      ...['capsule.started', 'collect.removed', 'collect.unlisted', 'command.ended', 'command.started', 'ending.noted'],
      ...['finished.journaled', 'layer.complete', 'layer.published', 'output.journaled', 'output.written'],
      ...['provision.layered', 'release.marked', 'started.journaled', 'takedown.disconnected', 'takedown.killed'],
      ...['takedown.unmounted'],
    ].map((point) => [point, [2]]),
  ),
  'discard.destroyed': [2, 3],
  'drop.marked': [2, 3],
  'hold.marked': [2, 3],
  'state.kept': [2, 3],
};

/** What only a host comes by that follows a killed one; the last of the points is the one that is meant. */
const afterCrash: readonly Crashes[] = [
  { scene: 'job', at: [null, at('skeleton.made')], between: 'no skeleton' },
  { scene: 'job', at: [null, at('agent.copied')] },
  { scene: 'job', at: [at('started.journaled'), at('recover.discarded')], between: 'stray capsule' },
  { scene: 'job', at: [at('capsule.prepared'), at('remains.unclaimed')] },
  { scene: 'job', at: [at('started.journaled'), at('collect.synced')] },
  { scene: 'job', at: [at('started.journaled'), at('collect.durable')] },
];

/** Killed once more where the next host is at what the first one left. */
const twice: readonly Crashes[] = [
  { scene: 'job', at: [at('command.started'), at('agent.greeted')] },
  { scene: 'job', at: [at('command.started'), at('started.journaled')] },
  { scene: 'job', at: [at('takedown.killed'), at('takedown.killed')] },
  { scene: 'job', at: [at('ending.noted'), at('seal.stopped')] },
  { scene: 'job', at: [at('seal.stopped'), at('remains.unclaimed')] },
  { scene: 'job', at: [at('seal.stopped'), at('seal.moved')] },
  { scene: 'job', at: [at('seal.moved'), at('layer.published')] },
  { scene: 'flood', at: [at('output.marked'), at('output.written')] },
  { scene: 'job', at: [at('provision.created')], between: 'capsules die' },
  { scene: 'unbegun', at: [at('beginning.noted')], between: 'capsules die' },
  { scene: 'begun', at: [at('output.written')], between: 'capsules die' },
];

const crashes = await allCrashes();
const benches: CrashBench[] = [];
let registry: TestRegistry | null = null;
let dir = '';
let image: string | null = null;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'caisson-crash-'));
  registry = registryProblem === null ? await startRegistry(dir) : null;
  image = registry && (await pushImage(registry));
  benches.push(...(await Promise.all(Array.from({ length: benchCount }, () => openCrashBench(image)))));
}, timeoutMs);

afterAll(async () => {
  await Promise.all(benches.map((bench) => bench.close()));
  await registry?.stop();
  await rm(dir, { recursive: true, force: true });
}, timeoutMs);

test.for(crashes)(
  'a host killed at $title loses, repeats and leaves nothing',
  { concurrent: true, timeout: timeoutMs },
  async (each, { task }) => {
    const bench = await freeBench();
    try {
      await bench.run(each);
      task.meta.killedAt = each.at.flatMap((crash) => crash ?? []);
      giveBack(bench);
    } catch (error) {
      // What is left of this one is nothing to go on with.
      await bench.close().catch(() => {});
      giveBack(await openCrashBench(image).catch(() => bench));
      throw error;
    }
  },
);

function titled(crashes: Crashes): Crashes & { readonly title: string } {
  const { at: points, between, scene } = crashes;
  const names = points.map((crash) => (crash === null ? 'rest' : `${crash.point} (time ${crash.hit})`));
  return { ...crashes, title: [...names, ...(between ? [between] : []), `in ${scene}`].join(', ') };
}

/** Every point in the source, so that none is forgotten. */
async function allCrashes(): Promise<readonly (Crashes & { readonly title: string })[]> {
  // Those of micro-virtual machines and of gVisor are in `microvm-crash.long.test.ts` and `gvisor-crash.long.test.ts`.
  const points = await crashPointsIn(new URL('../', import.meta.url), (name) => !/^(microvm|gvisor)-/.test(name));
  const named = [...Object.keys(scenes), ...Object.keys(laterHits)];
  for (const each of [...afterCrash, ...twice]) named.push(...each.at.flatMap((crash) => crash?.point ?? []));
  expect(
    named.filter((point) => !points.includes(point)),
    'crash points that are gone from the source',
  ).toEqual([]);
  const meant = new Set(afterCrash.map((each) => each.at.at(-1)?.point));
  const first = points.toSorted().filter((point) => !meant.has(point));
  const once = first.flatMap((point) =>
    [1, ...(laterHits[point] ?? [])].map((hit): Crashes => ({ scene: scenes[point] ?? 'job', at: [at(point, hit)] })),
  );
  return [...once, ...afterCrash, ...twice].map(titled);
}

const waiting: ((bench: CrashBench) => void)[] = [];

async function freeBench(): Promise<CrashBench> {
  return benches.shift() ?? new Promise((resolve) => waiting.push(resolve));
}

function giveBack(bench: CrashBench): void {
  const next = waiting.shift();
  if (next === undefined) benches.push(bench);
  else next(bench);
}

async function pushImage(registry: TestRegistry): Promise<string> {
  const layout = join(dir, 'layout');
  await mkdir(layout);
  const tar = await tarOf([
    { name: 'bin/busybox', content: await readFile('/bin/busybox'), mode: 0o755 },
    { name: 'bin/sh', type: 'symlink', linkname: 'busybox' },
  ]);
  const digest = await writeLayout(layout, [tar]);
  await registry.push(layout, 'tiny');
  return `${registry.host}/tiny@${digest}`;
}
