import { randomUUID } from 'node:crypto';
import { access, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { chooseLayersToDelete } from './layer-collect.ts';
import { diffDir, maxStackDepth } from './layer-overlay.ts';
import {
  checkName,
  exists,
  type Layer,
  type LayerMeta,
  readLayer,
  setMark,
  writeMeta,
  writeNewLayer,
  writeUsedAt,
} from './layer-record.ts';
import type { LayerStore } from './layer-store.ts';
import { runProgram } from './run-program.ts';

export interface LayerStoreOptions {
  /** Layers live in `<dataDir>/layers`. One process at a time may have it open. */
  readonly dataDir: string;
  readonly budgetBytes: number;
  /** How long an image or a source stays after its last use, whatever the budget; default ten minutes. */
  readonly graceMs?: number;
  readonly now?: () => number;
}

/** The layers of one data directory: the port, and what the stores that make layers need besides. */
export interface DiskLayers extends LayerStore {
  /** Makes a layer with nothing below it. When `fill` fails nothing is left; a layer that is already there stays as it is. */
  add(layerId: string, kind: 'image' | 'source', fill: FillLayer): Promise<void>;
  /** Who holds what, also from before a restart. */
  holds(): readonly { readonly layerId: string; readonly holder: string }[];
  /** Every layer that is here. */
  list(): readonly Readonly<Layer>[];
}

/** Puts a layer's content into the empty directory `diffDir`; `scratchDir` is for its own work and goes away afterwards. */
export type FillLayer = (diffDir: string, scratchDir: string) => Promise<void>;

interface State {
  readonly root: string;
  readonly options: Required<LayerStoreOptions>;
  readonly bootId: string;
  readonly layers: Map<string, Layer>;
  nextNumber: number;
  /** End of the queue of changes: one at a time. */
  tail: Promise<unknown>;
  collecting: Promise<{ readonly freedBytes: number }> | null;
}

/** Opens the layers of a data directory, finishing or removing what a killed predecessor left half done. */
export async function createLayerStore(options: LayerStoreOptions): Promise<DiskLayers> {
  const state = await open({ graceMs: 600_000, now: Date.now, ...options });
  return {
    stackOf: (layerId) => stackOf(state, layerId),
    directories: (stack) => stack.map((id) => diffDir(state.root, need(state, id).dirName)),
    seal: (layerId, upperDir, stack) => inTurn(state, () => seal(state, { layerId, upperDir, stack })),
    hold: (layerId, holder) => inTurn(state, () => hold(state, layerId, holder)),
    drop: (layerId, holder) => inTurn(state, () => drop(state, layerId, holder)),
    release: (layerId) => inTurn(state, () => release(state, layerId)),
    collect: () => collectOnce(state),
    add: (layerId, kind, fill) => add(state, { layerId, kind, fill }),
    holds: () => [...state.layers].flatMap(([layerId, l]) => [...l.holders].map((holder) => ({ layerId, holder }))),
    list: () => [...state.layers.values()],
  };
}

async function open(options: Required<LayerStoreOptions>): Promise<State> {
  const root = join(options.dataDir, 'layers');
  // A capsule's root is not root here, and has to pass through to its own disk.
  await mkdir(root, { recursive: true, mode: 0o711 });
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const state: State = {
    root,
    options,
    bootId,
    layers: new Map(),
    nextNumber: 1,
    tail: Promise.resolve(),
    collecting: null,
  };
  for (const name of await readdir(root)) await takeUp(state, name);
  return state;
}

/** Loads one directory left by an earlier process, finishes an interrupted seal, removes anything else that is not whole. */
async function takeUp(state: State, name: string): Promise<void> {
  const isTemp = name.startsWith('.tmp-');
  const layer = isTemp && !name.startsWith('.tmp-seal-') ? null : await readLayer(state.root, name);
  const survived = layer !== null && (layer.durable || layer.meta.bootId === state.bootId);
  if (!survived || state.layers.has(layer.meta.layerId)) return removeTree(join(state.root, name));
  if (isTemp) return publish(state, join(state.root, name), layer.meta);
  state.layers.set(layer.meta.layerId, layer);
  state.nextNumber = Math.max(state.nextNumber, Number.parseInt(name, 36) + 1);
}

/** Gives a whole layer its place by one rename. */
async function publish(state: State, tempDir: string, meta: LayerMeta): Promise<void> {
  const dirName = await freeName(state);
  await rename(tempDir, join(state.root, dirName));
  const usedAtMs = state.options.now();
  await writeUsedAt(join(state.root, dirName), usedAtMs);
  const layer: Layer = { dirName, meta, holders: new Set(), released: false, usedAtMs, durable: false };
  state.layers.set(meta.layerId, layer);
}

async function freeName(state: State): Promise<string> {
  for (;;) {
    const name = (state.nextNumber++).toString(36);
    if (!(await exists(join(state.root, name)))) return name;
  }
}

async function stackOf(state: State, layerId: string): Promise<readonly string[] | null> {
  const layer = state.layers.get(layerId);
  if (layer === undefined) return null;
  const stack = [layerId, ...layer.meta.below];
  const usedAtMs = state.options.now();
  for (const id of stack) {
    const member = state.layers.get(id);
    if (member === undefined) return null;
    await touch(state, member, usedAtMs);
  }
  return stack;
}

/** The file is only a hint for the next process: written now and then, and a layer deleted meanwhile is no error. */
async function touch(state: State, layer: Layer, usedAtMs: number): Promise<void> {
  const isWorthWriting = usedAtMs - layer.usedAtMs > 60_000;
  layer.usedAtMs = usedAtMs;
  if (isWorthWriting) await writeUsedAt(join(state.root, layer.dirName), usedAtMs).catch(() => {});
}

async function seal(
  state: State,
  call: { layerId: string; upperDir: string; stack: readonly string[] },
): Promise<void> {
  const { layerId, upperDir, stack } = call;
  checkName('layer id', layerId);
  if (state.layers.has(layerId)) {
    if (!(await exists(upperDir))) return;
    throw new AppError('snapshot_failed', `a snapshot ${layerId} is already there`);
  }
  for (const id of stack) need(state, id);
  if (stack.length >= maxStackDepth)
    throw new AppError('snapshot_failed', `a snapshot cannot have more than ${maxStackDepth} layers; join some steps`);
  const tempDir = join(state.root, `.tmp-seal-${layerId}`);
  const meta: LayerMeta = { layerId, kind: 'sealed', below: stack, sizeBytes: null, bootId: state.bootId };
  try {
    await access(upperDir);
    await mkdir(tempDir, { mode: 0o711 });
    await writeNewLayer(tempDir, meta);
    // From here on a restart finishes the seal.
    await rename(upperDir, join(tempDir, 'diff'));
  } catch (cause) {
    await removeTree(tempDir);
    throw new AppError('snapshot_failed', `the disk could not be kept as snapshot ${layerId}`, { cause });
  }
  await publish(state, tempDir, meta);
}

async function hold(state: State, layerId: string, holder: string): Promise<void> {
  checkName('holder', holder);
  const layer = need(state, layerId);
  await setMark(join(state.root, layer.dirName, 'holders', holder), true);
  layer.holders.add(holder);
}

async function drop(state: State, layerId: string, holder: string): Promise<void> {
  checkName('holder', holder);
  const layer = state.layers.get(layerId);
  if (layer === undefined) return;
  await setMark(join(state.root, layer.dirName, 'holders', holder), false);
  layer.holders.delete(holder);
}

async function release(state: State, layerId: string): Promise<void> {
  const layer = state.layers.get(layerId);
  if (layer === undefined) return;
  await setMark(join(state.root, layer.dirName, 'released'), true);
  layer.released = true;
}

interface AddCall {
  readonly layerId: string;
  readonly kind: 'image' | 'source';
  readonly fill: FillLayer;
}

async function add(state: State, { layerId, kind, fill }: AddCall): Promise<void> {
  checkName('layer id', layerId);
  if (state.layers.has(layerId)) return;
  const tempDir = join(state.root, `.tmp-${kind}-${randomUUID()}`);
  const meta: LayerMeta = { layerId, kind, below: [], sizeBytes: null, bootId: state.bootId };
  try {
    await fillNew(tempDir, fill);
    await writeNewLayer(tempDir, meta);
    await inTurn(state, async () => {
      if (state.layers.has(layerId)) await removeTree(tempDir);
      else await publish(state, tempDir, meta);
    });
  } catch (error) {
    await removeTree(tempDir);
    throw error;
  }
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

/** A collection asked for while one runs is that one. */
function collectOnce(state: State): Promise<{ readonly freedBytes: number }> {
  state.collecting ??= collect(state).finally(() => {
    state.collecting = null;
  });
  return state.collecting;
}

/** Only the choice and the renames need the queue; what takes long (measuring, deleting, syncing) holds up nobody. */
async function collect(state: State): Promise<{ readonly freedBytes: number }> {
  await measure(state);
  const gone = await inTurn(state, () => unlist(state));
  for (const layer of gone) await removeTree(goneDir(state, layer));
  await markDurable(state);
  return { freedBytes: gone.reduce((sum, layer) => sum + (layer.meta.sizeBytes ?? 0), 0) };
}

async function unlist(state: State): Promise<readonly Layer[]> {
  const doomed = chooseLayersToDelete([...state.layers.values()].map(collectable), {
    budgetBytes: state.options.budgetBytes,
    usedBeforeMs: state.options.now() - state.options.graceMs,
  });
  const gone: Layer[] = [];
  for (const layerId of doomed) {
    const layer = need(state, layerId);
    await rename(join(state.root, layer.dirName), goneDir(state, layer));
    state.layers.delete(layerId);
    gone.push(layer);
  }
  return gone;
}

function goneDir(state: State, layer: Layer): string {
  return join(state.root, `.tmp-gone-${layer.dirName}`);
}

function collectable(layer: Layer) {
  const { meta, released, usedAtMs } = layer;
  return { ...meta, sizeBytes: meta.sizeBytes ?? 0, held: layer.holders.size > 0, released, usedAtMs };
}

async function measure(state: State): Promise<void> {
  for (const layer of [...state.layers.values()]) {
    if (layer.meta.sizeBytes !== null) continue;
    const sizeBytes = await diskUsage(diffDir(state.root, layer.dirName));
    layer.meta = { ...layer.meta, sizeBytes };
    await writeMeta(join(state.root, layer.dirName), layer.meta);
  }
}

/**
 * A power cut loses bytes that are not yet on the disk although their names are, so a layer without this mark is not trusted
 * after the machine has booted again.
 */
async function markDurable(state: State): Promise<void> {
  const fresh = [...state.layers.values()].filter((layer) => !layer.durable);
  if (fresh.length === 0) return;
  await runProgram(['sync', '--file-system', state.root], { timeoutMs: 600_000 });
  await inTurn(state, async () => {
    for (const layer of fresh.filter(({ meta }) => state.layers.has(meta.layerId))) {
      await setMark(join(state.root, layer.dirName, 'durable'), true);
      layer.durable = true;
    }
  });
}

function need(state: State, layerId: string): Layer {
  const layer = state.layers.get(layerId);
  if (layer === undefined) throw new AppError('snapshot_missing', `layer ${layerId} is not on this host`);
  return layer;
}

function inTurn<T>(state: State, change: () => Promise<T>): Promise<T> {
  const result = state.tail.then(change);
  state.tail = result.catch(() => {});
  return result;
}

/** Deletes a tree of a capsule's making: any names, any depth, never through a mount. */
export async function removeTree(path: string): Promise<void> {
  await runProgram(['rm', '--recursive', '--force', '--one-file-system', '--', path], { timeoutMs: 600_000 });
}

async function diskUsage(path: string): Promise<number> {
  const { stdout } = await runProgram(['du', '-s', '-x', '--block-size=1', '--', path], { timeoutMs: 600_000 });
  return Number.parseInt(stdout, 10);
}
