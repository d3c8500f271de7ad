import { randomUUID } from 'node:crypto';
import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPoint } from '@caisson/contracts/crash-point';
import { exists } from './exists.ts';
import { checkName, type Layer, type LayerMeta, writeNewLayer, writeUsedAt } from './layer-record.ts';
import { inTurn, type LayerState, needLayer } from './layer-state.ts';
import { removeTree } from './layer-tree.ts';
import { orUndo } from './or-undo.ts';

/** Puts a layer's content into the empty directory `diffDir`; `scratchDir` is for its own work and goes away afterwards. */
export type FillLayer = (diffDir: string, scratchDir: string) => Promise<void>;

/** What is known of a layer before it is there. */
export type NewLayer = Pick<LayerMeta, 'layerId' | 'kind' | 'below' | 'sealedBy' | 'isCopy'>;

/** Makes a layer. When `fill` fails nothing is left; a layer that is already there stays as it is. */
export async function addLayer(state: LayerState, layer: NewLayer, fill: FillLayer): Promise<void> {
  const { layerId, kind } = layer;
  checkName('layer id', layerId);
  if (state.layers.has(layerId)) return;
  const tempDir = join(state.root, `.tmp-${kind}-${randomUUID()}`);
  const meta: LayerMeta = { ...layer, sizeBytes: null, bootId: state.bootId };
  const make = async () => {
    await fillNew(tempDir, fill);
    crashPoint('layer.filled');
    await writeNewLayer(tempDir, meta);
    await inTurn(state, async () => {
      // What it stands on may have gone meanwhile.
      for (const id of layer.below) needLayer(state, id);
      if (state.layers.has(layerId)) await removeTree(tempDir);
      else await publishLayer(state, tempDir, meta);
    });
  };
  await orUndo(make, () => removeTree(tempDir));
}

async function fillNew(tempDir: string, fill: FillLayer): Promise<void> {
  const diff = join(tempDir, 'diff');
  const scratch = join(tempDir, 'scratch');
  await mkdir(tempDir, { mode: 0o711 });
  await mkdir(diff, { mode: 0o755 });
  await mkdir(scratch, { mode: 0o700 });
  await fill(diff, scratch);
  await rm(scratch, { recursive: true });
}

/** Gives a whole layer its place by one rename. */
export async function publishLayer(state: LayerState, tempDir: string, meta: LayerMeta): Promise<void> {
  const dirName = await freeName(state);
  // Overlayfs enters by the rights of whoever mounts. Users of the host stay out: they would find private sources and foreign setuid files.
  await chmod(tempDir, 0o700);
  crashPoint('layer.complete');
  await rename(tempDir, join(state.root, dirName));
  crashPoint('layer.published');
  const usedAtMs = state.options.now();
  await writeUsedAt(join(state.root, dirName), usedAtMs);
  const layer: Layer = { dirName, meta, holders: new Set(), released: false, usedAtMs, durable: false };
  state.layers.set(meta.layerId, layer);
}

async function freeName(state: LayerState): Promise<string> {
  for (;;) {
    const name = (state.nextNumber++).toString(36);
    if (!(await exists(join(state.root, name)))) return name;
  }
}
