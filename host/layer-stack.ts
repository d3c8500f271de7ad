import { join } from 'node:path';
import { type Layer, writeUsedAt } from './layer-record.ts';
import type { LayerState } from './layer-state.ts';

/** See `LayerStore.stackOf`. */
export async function stackOf(state: LayerState, layerId: string): Promise<readonly string[] | null> {
  const layer = state.layers.get(layerId);
  if (layer === undefined) return null;
  const stack = [layerId, ...layer.meta.below];
  const usedAtMs = state.options.now();
  for (const id of stack) {
    const member = state.layers.get(id);
    if (member === undefined || isForeign(state, member)) return null;
    await touch(state, member, usedAtMs);
  }
  return stack;
}

/** A disk that the other driver's capsules wrote: it is in a form from which ours cannot start. */
export function isForeign({ options }: LayerState, { meta }: Layer): boolean {
  return meta.kind === 'sealed' && (meta.sealedBy ?? 'container') !== options.driver;
}

/** The file is only a hint for the next process: written now and then, and a layer deleted meanwhile is no error. */
async function touch(state: LayerState, layer: Layer, usedAtMs: number): Promise<void> {
  const isWorthWriting = usedAtMs - layer.usedAtMs > 60_000;
  layer.usedAtMs = usedAtMs;
  if (isWorthWriting) await writeUsedAt(join(state.root, layer.dirName), usedAtMs).catch(() => {});
}
