import type { LayerCopy, LayerUpload } from '@caisson/contracts/host-api';

/**
 * Immutable disk layers of one host: unpacked images, unpacked sources, sealed disks of finished runs. A capsule's disk is a
 * stack of layer ids, top first.
 */
export interface LayerStore {
  /** The layer with everything below it, top first; null when any of it is not here. */
  stackOf(layerId: string): Promise<readonly string[] | null>;
  /** Overlayfs lower directories of a stack, top first. */
  directories(stack: readonly string[]): readonly string[];
  /** Makes a finished capsule's writable directory the layer `layerId` on top of `stack` by renaming it: O(1). */
  seal(layerId: string, upperDir: string, stack: readonly string[]): Promise<void>;
  /**
   * Holds a layer and all below it in place while `holder` (a capsule id) uses it. Idempotent, durable. Throws
   * `AppError('snapshot_missing')` when the layer is not here.
   */
  hold(layerId: string, holder: string): Promise<void>;
  drop(layerId: string, holder: string): Promise<void>;
  /** Nobody will ask for this layer by id again; it goes when nothing holds it or stacks on it. */
  release(layerId: string): Promise<void>;
  /**
   * Deletes released layers that nothing uses and copies of other hosts' disks that nothing has used lately, then the least recently
   * used images and sources until the rest fits the budget.
   */
  collect(): Promise<{ readonly freedBytes: number }>;
  /** A layer with all below it, top first, as they go to another host; null when any of it is not here. */
  describe(layerId: string): Promise<readonly LayerCopy[] | null>;
  /** Whether what other hosts know by this id is here, with all below it. */
  hasCopy(copyId: string): Promise<boolean>;
  /** Its bytes for another host's `addCopy`. Throws `AppError('snapshot_missing')`. */
  readCopy(copyId: string): AsyncIterable<Uint8Array>;
  /**
   * Makes a layer of what another host's `readCopy` gave; `check` throws when nothing could start from its directory. Throws
   * `AppError` `blob_digest_mismatch`, `disk_full`, or `snapshot_failed` when it is nothing this host could use.
   */
  addCopy(
    layer: LayerUpload,
    bytes: AsyncIterable<Uint8Array>,
    check: (directory: string) => Promise<void>,
  ): Promise<void>;
}

/** Source archives (gzipped tars by sha256) and the layers they unpack to: `/workspace` with the tree in it. */
export interface SourceStore {
  has(digest: string): Promise<boolean>;
  /** Stores an archive; throws `AppError('blob_digest_mismatch')` when the bytes do not hash to `digest`. */
  put(digest: string, bytes: AsyncIterable<Uint8Array>): Promise<void>;
  /** Layer id of the unpacked archive, unpacked at most once; throws `AppError('source_invalid')` naming the offending entry. */
  layerFor(digest: string): Promise<string>;
}

/** Root filesystems by name, kept by digest. */
export interface ImageStore {
  /**
   * Layer id of the image, fetching or building it when missing; one fetch for concurrent callers. `progress` gets short lines.
   * Throws `AppError` `image_unavailable` or `image_invalid`, whose message says what to do.
   */
  resolve(image: string, progress: (line: string) => void, signal: AbortSignal): Promise<ResolvedImage>;
}

export interface ResolvedImage {
  readonly layerId: string;
  readonly digest: string;
  /** Shown in the build's log, e.g. that an alias stood in for the image asked for. */
  readonly warning: string | null;
  /** The image's own environment (OCI `Env`), e.g. PATH. */
  readonly env: Readonly<Record<string, string>>;
}
