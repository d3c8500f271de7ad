import { AppError } from '@caisson/contracts/app-error';
import type { Layer } from './layer-record.ts';

export interface LayerStoreOptions {
  /** Layers live in `<dataDir>/layers`. One process at a time may have it open. */
  readonly dataDir: string;
  readonly budgetBytes: number;
  /** How long an image or a source stays after its last use, whatever the budget; default ten minutes. */
  readonly graceMs?: number;
  readonly now?: () => number;
  /** The driver whose disks are sealed here; those of the other are kept, but are not here for anybody. Default containers. */
  readonly driver?: 'container' | 'microvm';
}

/** What a collection gives. */
export type Collection = Promise<{ readonly freedBytes: number }>;

/** The open layers of one data directory. */
export interface LayerState {
  readonly root: string;
  readonly options: Required<LayerStoreOptions>;
  readonly bootId: string;
  readonly layers: Map<string, Layer>;
  nextNumber: number;
  /** End of the queue of changes: one at a time. */
  tail: Promise<unknown>;
  readonly collections: { running: Collection | null; next: Collection | null };
  syncedAtMs: number;
}

/** The layer with this id; throws `snapshot_missing`. */
export function needLayer(state: LayerState, layerId: string): Layer {
  const layer = state.layers.get(layerId);
  if (layer === undefined) throw new AppError('snapshot_missing', `layer ${layerId} is not on this host`);
  return layer;
}

/** Does one change after the other. */
export function inTurn<T>(state: LayerState, change: () => Promise<T>): Promise<T> {
  const result = state.tail.then(change);
  state.tail = result.catch(() => {});
  return result;
}
