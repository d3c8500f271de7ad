import type { LayerKind } from '@caisson/contracts/host-api';

/** What decides whether a layer may go. */
export interface CollectableLayer {
  readonly layerId: string;
  readonly kind: LayerKind;
  readonly below: readonly string[];
  readonly sizeBytes: number;
  readonly held: boolean;
  readonly released: boolean;
  /** It came from another host. */
  readonly isCopy: boolean;
  readonly usedAtMs: number;
}

interface CollectLimits {
  /** Disk space all layers together may take. */
  readonly budgetBytes: number;
  /** Images, sources and copies used since then stay, so that what was just resolved is still there when it is held. */
  readonly usedBeforeMs: number;
}

/**
 * Ids of the layers to delete, in an order in which no layer goes before those stacked on it: first what was released (or
 * stands on something that is gone), then the least recently used images and sources until the rest fits the budget. What
 * is held, or carries a layer that stays, is never among them.
 */
export function chooseLayersToDelete(layers: readonly CollectableLayer[], limits: CollectLimits): readonly string[] {
  const present = new Map(layers.map((layer) => [layer.layerId, layer]));
  const carried = new Map<string, number>();
  for (const layer of layers) for (const id of layer.below) carried.set(id, (carried.get(id) ?? 0) + 1);
  const chosen: string[] = [];
  let totalBytes = layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);

  const isFree = (layer: CollectableLayer) => !layer.held && (carried.get(layer.layerId) ?? 0) === 0;
  // A disk of another host comes again when somebody wants it; nobody says when nobody does.
  const isOldCopy = ({ kind, isCopy, usedAtMs }: CollectableLayer) =>
    kind === 'sealed' && isCopy && usedAtMs < limits.usedBeforeMs;
  const isUseless = (layer: CollectableLayer) =>
    layer.released || isOldCopy(layer) || layer.below.some((id) => !present.has(id));
  const remove = (layer: CollectableLayer) => {
    present.delete(layer.layerId);
    chosen.push(layer.layerId);
    totalBytes -= layer.sizeBytes;
    for (const id of layer.below) carried.set(id, (carried.get(id) ?? 0) - 1);
  };

  for (let useless: CollectableLayer[]; ; useless.forEach(remove)) {
    useless = [...present.values()].filter((layer) => isFree(layer) && isUseless(layer));
    if (useless.length === 0) break;
  }
  const evictable = [...present.values()]
    .filter((layer) => layer.kind !== 'sealed' && isFree(layer) && layer.usedAtMs < limits.usedBeforeMs)
    .sort((a, b) => a.usedAtMs - b.usedAtMs);
  for (const layer of evictable) if (totalBytes > limits.budgetBytes) remove(layer);
  return chosen;
}
