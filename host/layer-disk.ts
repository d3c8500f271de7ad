import { access, mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { exists } from './exists.ts';
import { addLayer, type FillLayer, publishLayer } from './layer-add.ts';
import { addCopy, describeLayer, hasCopy, readCopy } from './layer-copies.ts';
import { collectLayers } from './layer-garbage.ts';
import { diffDir, maxStackDepth } from './layer-overlay.ts';
import {
  checkName,
  type Layer,
  type LayerMeta,
  readBootId,
  readLayer,
  setMark,
  writeNewLayer,
} from './layer-record.ts';
import { isForeign, stackOf } from './layer-stack.ts';
import { inTurn, type LayerState, type LayerStoreOptions, needLayer } from './layer-state.ts';
import type { LayerStore } from './layer-store.ts';
import { removeTree } from './layer-tree.ts';

/** The layers of one data directory: the port, and what the stores that make layers need besides. */
export interface DiskLayers extends LayerStore {
  /** Makes a layer with nothing below it. When `fill` fails nothing is left; a layer that is already there stays as it is. */
  add(layerId: string, kind: 'image' | 'source', fill: FillLayer): Promise<void>;
  /**
   * Where something may be put together that is to be sealed under this id, beside the layers; it is not made. What is left there goes
   * when the layers are opened next.
   */
  draft(layerId: string): string;
  /** Who holds what, also from before a restart. */
  holds(): readonly { readonly layerId: string; readonly holder: string }[];
  /** Every layer that is here. */
  list(): readonly Readonly<Layer>[];
}

/** Opens the layers of a data directory, finishing or removing what a killed predecessor left half done. */
export async function createLayerStore(options: LayerStoreOptions): Promise<DiskLayers> {
  const state = await open({ graceMs: 600_000, now: Date.now, driver: 'container', ...options });
  return {
    stackOf: (layerId) => stackOf(state, layerId),
    directories: (stack) => stack.map((id) => diffDir(state.root, needLayer(state, id).dirName)),
    seal: (layerId, upperDir, stack) => inTurn(state, () => seal(state, { layerId, upperDir, stack })),
    hold: (layerId, holder) => inTurn(state, () => hold(state, layerId, holder)),
    drop: (layerId, holder) => inTurn(state, () => drop(state, layerId, holder)),
    release: (layerId) => inTurn(state, () => release(state, layerId)),
    collect: () => collectLayers(state),
    add: (layerId, kind, fill) => addLayer(state, { layerId, kind, below: [] }, fill),
    describe: (layerId) => describeLayer(state, layerId),
    hasCopy: (copyId) => hasCopy(state, copyId),
    readCopy: (copyId) => readCopy(state, copyId),
    addCopy: (layer, bytes, check) => addCopy(state, { layer, bytes, check }),
    draft: (layerId) => join(state.root, `.tmp-draft-${layerId}`),
    holds: () => [...state.layers].flatMap(([layerId, l]) => [...l.holders].map((holder) => ({ layerId, holder }))),
    list: () => [...state.layers.values()],
  };
}

async function open(options: Required<LayerStoreOptions>): Promise<LayerState> {
  const root = join(options.dataDir, 'layers');
  // A capsule's root is not root here, and has to pass through to its own disk.
  await mkdir(root, { recursive: true, mode: 0o711 });
  const bootId = await readBootId();
  const state: LayerState = {
    root,
    options,
    bootId,
    layers: new Map(),
    nextNumber: 1,
    tail: Promise.resolve(),
    collections: { running: null, next: null },
    syncedAtMs: Number.NEGATIVE_INFINITY,
  };
  for (const name of await readdir(root)) await takeUp(state, name);
  return state;
}

/** Loads one directory left by an earlier process, finishes an interrupted seal, removes anything else that is not whole. */
async function takeUp(state: LayerState, name: string): Promise<void> {
  const isTemp = name.startsWith('.tmp-');
  const layer = isTemp && !name.startsWith('.tmp-seal-') ? null : await readLayer(state.root, name);
  const survived = layer !== null && (layer.durable || layer.meta.bootId === state.bootId);
  if (!survived || state.layers.has(layer.meta.layerId)) return removeTree(join(state.root, name));
  if (isTemp) return publishLayer(state, join(state.root, name), layer.meta);
  state.layers.set(layer.meta.layerId, layer);
  state.nextNumber = Math.max(state.nextNumber, Number.parseInt(name, 36) + 1);
}

async function seal(
  state: LayerState,
  call: { layerId: string; upperDir: string; stack: readonly string[] },
): Promise<void> {
  const { layerId, upperDir, stack } = call;
  checkName('layer id', layerId);
  if (state.layers.has(layerId)) {
    if (!(await exists(upperDir))) return;
    throw new AppError('snapshot_failed', `a snapshot ${layerId} is already there`);
  }
  for (const id of stack) needLayer(state, id);
  if (stack.length >= maxStackDepth)
    throw new AppError('snapshot_failed', `a snapshot cannot have more than ${maxStackDepth} layers; join some steps`);
  const tempDir = join(state.root, `.tmp-seal-${layerId}`);
  const { bootId, options } = state;
  const sealedBy = options.driver === 'microvm' ? { sealedBy: options.driver } : {};
  const meta: LayerMeta = { layerId, kind: 'sealed', below: stack, sizeBytes: null, bootId, ...sealedBy };
  try {
    await access(upperDir);
    await mkdir(tempDir, { mode: 0o711 });
    await writeNewLayer(tempDir, meta);
    crashPoint('seal.described');
    // From here on a restart finishes the seal.
    await rename(upperDir, join(tempDir, 'diff'));
    crashPoint('seal.moved');
    await publishLayer(state, tempDir, meta);
  } catch (cause) {
    await removeTree(tempDir);
    throw new AppError('snapshot_failed', `the disk could not be kept as snapshot ${layerId}`, { cause });
  }
}

async function hold(state: LayerState, layerId: string, holder: string): Promise<void> {
  checkName('holder', holder);
  const layer = needLayer(state, layerId);
  if (isForeign(state, layer)) throw new AppError('snapshot_missing', `another driver made the layer ${layerId}`);
  await setMark(join(state.root, layer.dirName, 'holders', holder), true);
  crashPoint('hold.marked');
  layer.holders.add(holder);
}

async function drop(state: LayerState, layerId: string, holder: string): Promise<void> {
  checkName('holder', holder);
  const layer = state.layers.get(layerId);
  if (layer === undefined) return;
  await setMark(join(state.root, layer.dirName, 'holders', holder), false);
  crashPoint('drop.marked');
  layer.holders.delete(holder);
}

async function release(state: LayerState, layerId: string): Promise<void> {
  const layer = state.layers.get(layerId);
  if (layer === undefined) return;
  // First here: on a full disk it goes all the same, which makes room.
  layer.released = true;
  await setMark(join(state.root, layer.dirName, 'released'), true);
  crashPoint('release.marked');
}
