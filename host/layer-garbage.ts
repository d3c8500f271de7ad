import { rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPoint } from '@caisson/contracts/crash-point';
import { diskRoom } from './disk-room.ts';
import { chooseLayersToDelete } from './layer-collect.ts';
import { diffDir, layerDiskPath } from './layer-overlay.ts';
import { type Layer, setMark, writeMeta } from './layer-record.ts';
import { type Collection, inTurn, type LayerState, needLayer } from './layer-state.ts';
import { diskUsage, removeTree } from './layer-tree.ts';
import { runProgram } from './run-program.ts';

const syncEveryMs = 30_000;

/** A collection asked for while one runs comes after it, because that one may have made its choice already; one for all who ask. */
export function collectLayers(state: LayerState): Collection {
  const { running, next } = state.collections;
  if (running !== null) {
    const after = next ?? running.catch(() => {}).then(() => collectLayers(state));
    state.collections.next = after;
    return after;
  }
  const started = collect(state).finally(() => {
    state.collections.running = null;
    state.collections.next = null;
  });
  state.collections.running = started;
  return started;
}

/** Only the choice and the renames need the queue; what takes long (measuring, deleting, syncing) holds up nobody. */
async function collect(state: LayerState): Promise<{ readonly freedBytes: number }> {
  await measure(state);
  const { shortBytes } = await diskRoom(state.root);
  const gone = await inTurn(state, () => unlist(state, shortBytes));
  for (const layer of gone) await removeTree(goneDir(state, layer));
  crashPoint('collect.removed');
  // On a full disk there is no room for marks; the next collection makes them.
  await markDurable(state).catch(() => {});
  return { freedBytes: gone.reduce((sum, layer) => sum + (layer.meta.sizeBytes ?? 0), 0) };
}

/** With too little room for new work the budget is as much smaller. */
async function unlist(state: LayerState, shortBytes: number): Promise<readonly Layer[]> {
  const layers = await Promise.all([...state.layers.values()].map((layer) => collectable(state, layer)));
  const totalBytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const doomed = chooseLayersToDelete(layers, {
    budgetBytes: Math.min(state.options.budgetBytes, shortBytes > 0 ? totalBytes - shortBytes : totalBytes),
    usedBeforeMs: state.options.now() - state.options.graceMs,
  });
  const gone: Layer[] = [];
  for (const layerId of doomed) {
    const layer = needLayer(state, layerId);
    await rename(join(state.root, layer.dirName), goneDir(state, layer));
    crashPoint('collect.unlisted');
    state.layers.delete(layerId);
    gone.push(layer);
  }
  return gone;
}

function goneDir(state: LayerState, layer: Layer): string {
  return join(state.root, `.tmp-gone-${layer.dirName}`);
}

async function collectable(state: LayerState, layer: Layer) {
  const { meta, released, usedAtMs } = layer;
  // Made later than the rest, if at all.
  const asDisk = await stat(layerDiskPath(diffDir(state.root, layer.dirName))).catch(() => null);
  const sizeBytes = (meta.sizeBytes ?? 0) + (asDisk?.size ?? 0);
  return { ...meta, isCopy: meta.isCopy === true, sizeBytes, held: layer.holders.size > 0, released, usedAtMs };
}

async function measure(state: LayerState): Promise<void> {
  for (const layer of [...state.layers.values()]) {
    if (layer.meta.sizeBytes !== null) continue;
    const sizeBytes = await diskUsage(diffDir(state.root, layer.dirName));
    layer.meta = { ...layer.meta, sizeBytes };
    // Only saves the next process the measuring; on a full disk there is no room for it.
    await inTurn(state, () => writeMeta(join(state.root, layer.dirName), layer.meta)).catch(() => {});
  }
}

/**
 * A power cut loses bytes that are not yet on the disk although their names are, so a layer without this mark is not trusted
 * after the machine has booted again.
 */
async function markDurable(state: LayerState): Promise<void> {
  const fresh = [...state.layers.values()].filter((layer) => !layer.durable);
  // A sync is felt by everything on the disk, and collections come in bursts.
  if (fresh.length === 0 || performance.now() - state.syncedAtMs < syncEveryMs) return;
  state.syncedAtMs = performance.now();
  await runProgram(['sync', '--file-system', state.root], { timeoutMs: 600_000 });
  await inTurn(state, async () => {
    crashPoint('collect.synced');
    for (const layer of fresh.filter(({ meta }) => state.layers.has(meta.layerId))) {
      await setMark(join(state.root, layer.dirName, 'durable'), true);
      crashPoint('collect.durable');
      layer.durable = true;
    }
  });
}
