import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import type { LayerCopy, LayerUpload } from '@caisson/contracts/host-api';
import { asAppError } from './container-errors.ts';
import { digestChecked } from './digest-check.ts';
import { addLayer } from './layer-add.ts';
import { type Member, packLayer, unpackLayer } from './layer-archive.ts';
import { layerDiskPath, maxStackDepth } from './layer-overlay.ts';
import { type Layer, type LayerMeta, writeMeta } from './layer-record.ts';
import { stackOf } from './layer-stack.ts';
import { inTurn, type LayerState, needLayer } from './layer-state.ts';

/** See `LayerStore.describe`. */
export async function describeLayer(state: LayerState, layerId: string): Promise<readonly LayerCopy[] | null> {
  const stack = await stackOf(state, layerId);
  if (stack === null) return null;
  for (const id of stack) await nameForOthers(state, id);
  const copyIdOf = (id: string) => copyIdIn(state, needLayer(state, id).meta);
  return stack.map((id) => {
    const { kind, below } = needLayer(state, id).meta;
    return { copyId: copyIdOf(id), kind, driver: state.options.driver, below: below.map(copyIdOf) };
  });
}

/** An image of the same name may be another one elsewhere, or later. */
function nameForOthers(state: LayerState, layerId: string): Promise<void> {
  return inTurn(state, async () => {
    const layer = needLayer(state, layerId);
    if (hasNameForOthers(layer)) return;
    layer.meta = { ...layer.meta, origin: randomUUID() };
    await writeMeta(join(state.root, layer.dirName), layer.meta);
  });
}

function hasNameForOthers({ meta: { kind, isCopy, origin } }: Layer): boolean {
  return kind === 'sealed' || isCopy === true || origin !== undefined;
}

/** What a machine sees of a directory is a disk made of it, and that, to the byte, is what its memory knows. */
function copyIdIn({ options }: LayerState, { layerId, kind, isCopy, origin }: LayerMeta): string {
  if (kind === 'sealed' || isCopy === true) return layerId;
  return `copy-${origin}${options.driver === 'microvm' ? '-disk' : ''}`;
}

/** The layer that other hosts know by this id; never one that has it for a name of this host's own. */
function findCopy(state: LayerState, copyId: string): Layer | undefined {
  const named = state.layers.get(copyId);
  if (named !== undefined && copyIdIn(state, named.meta) === copyId) return named;
  return [...state.layers.values()].find(({ meta }) => meta.origin !== undefined && copyIdIn(state, meta) === copyId);
}

const sealedPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const madeUpPattern = /^copy-[0-9a-f-]{36}(-disk)?$/;

/** A copy must not get the name of an image or a source of this host. */
function checkCopyId({ kind, copyId }: LayerCopy): void {
  const pattern = kind === 'sealed' ? sealedPattern : madeUpPattern;
  if (!pattern.test(copyId)) throw new AppError('invalid_argument', `${JSON.stringify(copyId)} names no copy`);
}

/** See `LayerStore.hasCopy`. */
export async function hasCopy(state: LayerState, copyId: string): Promise<boolean> {
  const layer = findCopy(state, copyId);
  return layer !== undefined && (await stackOf(state, layer.meta.layerId)) !== null;
}

/** See `LayerStore.readCopy`. */
export async function* readCopy(state: LayerState, copyId: string): AsyncIterable<Uint8Array> {
  const layer = findCopy(state, copyId);
  if (layer === undefined) throw new AppError('snapshot_missing', `layer ${copyId} is not on this host`);
  const { name } = memberOf({ kind: layer.meta.kind, driver: state.options.driver });
  yield* packLayer(join(state.root, layer.dirName), name);
}

/** What of a layer's directory another host needs. */
function memberOf({ kind, driver }: Pick<LayerCopy, 'kind' | 'driver'>): Member {
  const isPlain = driver === 'microvm';
  if (isPlain && kind !== 'sealed') return { name: layerDiskPath('diff'), type: 'file', isPlain };
  return { name: 'diff', type: 'directory', isPlain };
}

interface AddCopyCall {
  readonly layer: LayerUpload;
  readonly bytes: AsyncIterable<Uint8Array>;
  readonly check: (directory: string) => Promise<void>;
}

/** See `LayerStore.addCopy`. */
export async function addCopy(state: LayerState, { layer, bytes, check }: AddCopyCall): Promise<void> {
  const { copyId, kind, driver } = layer;
  checkCopyId(layer);
  if (findCopy(state, copyId) !== undefined) return;
  if (driver !== state.options.driver)
    throw new AppError('snapshot_failed', `the driver of this host cannot use layer ${copyId} of ${driver} capsules`);
  const below = layer.below.map((id) => layerBelow(state, id));
  if (below.length >= maxStackDepth) throw new AppError('snapshot_failed', 'the snapshot has too many layers');
  const sealedBy = kind === 'sealed' && driver === 'microvm' ? { sealedBy: driver } : {};
  try {
    await addLayer(state, { layerId: copyId, kind, below, isCopy: true, ...sealedBy }, async (diff) => {
      await unpackLayer(digestChecked(bytes, layer.digest), dirname(diff), memberOf(layer));
      await check(diff);
    });
  } catch (error) {
    throw asAppError(error, 'snapshot_failed', `layer ${copyId} could not be unpacked`);
  }
}

function layerBelow(state: LayerState, copyId: string): string {
  const found = findCopy(state, copyId);
  if (found === undefined) throw new AppError('snapshot_missing', `layer ${copyId} is not on this host`);
  return found.meta.layerId;
}
