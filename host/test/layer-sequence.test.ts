import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLayerStore, type DiskLayers } from '../layer-disk.ts';
import { tempDir } from './temp-dir.ts';

type Action = {
  readonly kind: 'add' | 'seal' | 'hold' | 'drop' | 'release' | 'collect' | 'reopen';
  readonly pick: number;
};

const actions = fc.array(
  fc.record({
    kind: fc.constantFrom<Action['kind']>('add', 'seal', 'seal', 'hold', 'drop', 'release', 'collect', 'reopen'),
    pick: fc.nat(),
  }),
  { minLength: 10, maxLength: 30 },
);

/** What the store was told, kept apart from it. */
interface Told {
  readonly stacks: Map<string, readonly string[]>;
  readonly holds: Set<string>;
  readonly released: Set<string>;
}

async function act(
  action: Action,
  context: { layers: DiskLayers; told: Told; dataDir: string; nth: number },
): Promise<void> {
  const { layers, told, dataDir, nth } = context;
  const here = layers.list().map((layer) => layer.meta.layerId);
  const target = here.length === 0 ? undefined : here[action.pick % here.length];
  if (action.kind === 'add') {
    await layers.add(`i${nth}`, 'image', (diffDir) => writeFile(join(diffDir, 'x'), 'x'));
    told.stacks.set(`i${nth}`, [`i${nth}`]);
  } else if (action.kind === 'seal') {
    const stack = target === undefined ? [] : await layers.stackOf(target);
    if (stack === null) return;
    const upper = join(dataDir, `upper-${nth}`);
    await mkdir(upper);
    await layers.seal(`s${nth}`, upper, stack);
    told.stacks.set(`s${nth}`, [`s${nth}`, ...stack]);
  } else if (action.kind === 'collect') await layers.collect();
  else if (target !== undefined) await actOn(action.kind, target, { layers, told });
}

async function actOn(kind: Action['kind'], target: string, { layers, told }: { layers: DiskLayers; told: Told }) {
  if (kind === 'hold') {
    await layers.hold(target, 'capsule');
    told.holds.add(target);
  } else if (kind === 'drop') {
    await layers.drop(target, 'capsule');
    told.holds.delete(target);
  } else if (kind === 'release') {
    await layers.release(target);
    told.released.add(target);
  }
}

async function check(layers: DiskLayers, told: Told, root: string): Promise<void> {
  const here = new Set(layers.list().map((layer) => layer.meta.layerId));
  for (const held of told.holds) expect(await layers.stackOf(held)).toEqual(told.stacks.get(held));
  for (const id of here) expect(await layers.stackOf(id)).toEqual(told.stacks.get(id));
  const kept = [...told.stacks.keys()].filter((id) => id.startsWith('s') && !told.released.has(id));
  for (const id of kept) expect(here.has(id)).toBe(true);
  expect((await readdir(root)).length).toBe(here.size);
}

test('in random sequences a held or stacked-on layer is never removed and nothing leaks', async () => {
  let round = 0;
  const base = await tempDir();
  const property = fc.asyncProperty(actions, fc.constantFrom(0, 20_000, 1e9), async (steps, budgetBytes) => {
    const dataDir = join(base, String(round++));
    let nowMs = 1e12;
    const open = () => createLayerStore({ dataDir, budgetBytes, graceMs: 10, now: () => nowMs });
    let layers = await open();
    const told: Told = { stacks: new Map(), holds: new Set(), released: new Set() };
    for (const [nth, action] of steps.entries()) {
      nowMs += 7;
      if (action.kind === 'reopen') layers = await open();
      else await act(action, { layers, told, dataDir, nth });
      await check(layers, told, join(dataDir, 'layers'));
    }
    await clear(layers, told);
    nowMs += 1000;
    await (await createLayerStore({ dataDir, budgetBytes: 0, graceMs: 0, now: () => nowMs })).collect();
    expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
  });
  await fc.assert(property, { numRuns: 25 });
});

async function clear(layers: DiskLayers, told: Told): Promise<void> {
  for (const id of told.holds) await layers.drop(id, 'capsule');
  for (const { meta } of layers.list()) await layers.release(meta.layerId);
}
