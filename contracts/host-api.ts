/**
 * What the control plane asks of one machine that runs capsules. The server holds a `HostApi` and never knows whether it is
 * answered in the same process or over HTTP/2 on a socket. Every call is idempotent, keyed by the lease.
 */
export interface HostApi {
  /** Who the host is and what it can do. */
  describe(): Promise<HostDescription>;
  /** The leases this host holds now; proof of life. */
  heartbeat(): Promise<HostHeartbeat>;
  /** True when the archive with this digest needs no upload. */
  hasBlob(digest: string): Promise<boolean>;
  /** Stores an archive; refuses with `blob_digest_mismatch` when the bytes do not hash to `digest`. */
  putBlob(digest: string, bytes: AsyncIterable<Uint8Array>): Promise<void>;
  /**
   * Takes over a run. Resolves once the assignment is durable on the host; from then on the host runs it on its own, whatever
   * happens to the control plane or, while the machine is up, to the host: its command is started at most once. A repeat with the same
   * lease and fence changes nothing.
   */
  startRun(assignment: RunAssignment): Promise<void>;
  /** Ends a run: SIGTERM to the command's process group, SIGKILL after its `graceMs`. An unknown lease is not an error. */
  cancelRun(lease: LeaseRef, reason: CancelReason): Promise<void>;
  /**
   * Messages of every run on this host, in `seq` order per run, from the first one not yet acknowledged. Ends when `signal`
   * aborts. Only the newest watcher is served.
   */
  watch(signal: AbortSignal): AsyncIterable<RunMessage>;
  /** The control plane holds every message of the run up to `seq`. After the `finished` message is acknowledged the run is forgotten. */
  acknowledge(acks: readonly RunAck[]): Promise<void>;
  /** No lease or build needs this snapshot any more; the host may delete it once nothing stacks on it. */
  releaseLayer(layerId: string): Promise<void>;
  /** A layer with all that lies below it, top first, as they go to another host; null when any of it is not here. */
  describeLayer(layerId: string): Promise<readonly LayerCopy[] | null>;
  /** True when this copy needs no upload. */
  hasLayer(copyId: string): Promise<boolean>;
  /** The bytes of a layer for another host's `putLayer`, packed while they are read. Throws `snapshot_missing`. */
  readLayer(copyId: string): AsyncIterable<Uint8Array>;
  /**
   * Unpacks a layer of another host on those below it, which are here. One that is here already stays as it is; one that nobody has
   * used for a while may go again. Refuses with `blob_digest_mismatch` when the bytes do not hash to its digest, with
   * `snapshot_failed` when nothing could start from it here.
   */
  putLayer(layer: LayerUpload, bytes: AsyncIterable<Uint8Array>): Promise<void>;
}

/** A layer as it goes from host to host. */
export interface LayerCopy {
  /** Its id wherever it is a copy: that of a sealed disk, or else a name made up on the host it comes from. */
  readonly copyId: string;
  readonly kind: LayerKind;
  /** Whose capsules can start from it. */
  readonly driver: DriverCapabilities['driver'];
  /** What lies below it, top first. */
  readonly below: readonly string[];
}

export interface LayerUpload extends LayerCopy {
  /** sha256 (lower hex) of the bytes. */
  readonly digest: string;
  /** Capsules are to go on with the memory that is in it. */
  readonly isForMemory: boolean;
}

/** An unpacked image, an unpacked source, or the kept disk of a capsule. */
export type LayerKind = 'image' | 'source' | 'sealed';

export interface HostDescription {
  readonly hostId: string;
  /** Version of this contract; a control plane refuses a host with another major. */
  readonly protocol: 1;
  readonly driver: DriverCapabilities;
  readonly capacity: { readonly cpus: number; readonly memoryBytes: number; readonly diskBytes: number };
}

export interface DriverCapabilities {
  readonly driver: 'container' | 'microvm';
  /** The program behind it, as shown by `caisson doctor`: `runc 1.1.5`, `qemu 10.0.2 (tcg)`. */
  readonly runtime: string;
  /** True when a snapshot can hold memory as well as disk. */
  readonly memorySnapshots: boolean;
}

export interface HostHeartbeat {
  readonly hostId: string;
  readonly leases: readonly LeaseRef[];
  /** Why the host takes no new work just now, for people, e.g. that its disk is nearly full; absent when it does. */
  readonly refuses?: string;
}

/** A lease with the number that fences off its predecessors. */
export interface LeaseRef {
  readonly leaseId: string;
  readonly fence: number;
}

export interface RunAck extends LeaseRef {
  readonly seq: number;
}

export type CancelReason = 'canceled' | 'timed_out' | 'lost';

/** One command in one fresh capsule. */
export interface RunAssignment extends LeaseRef {
  readonly capsuleId: string;
  readonly work: RunWork;
  /** Where the disk starts: an image by name or digest, or the sealed disk of an earlier run. */
  readonly base:
    | { readonly image: string }
    /** With `snapshot`, the capsule goes on in the midst of what ran in the earlier run's, as a capsule of its own. */
    | { readonly layerId: string; readonly snapshot?: 'memory' };
  readonly shape: CapsuleShape;
  /** sha256 (lower hex) of a gzipped tar unpacked as `/workspace` before the command starts; null on a sealed disk. */
  readonly sourceDigest: string | null;
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly graceMs: number;
  /** Output beyond this many bytes is dropped behind one visible marker. */
  readonly maxOutputBytes: number;
  /** Id under which the disk is kept when the command passes; null when nobody starts from it. */
  readonly sealAs: string | null;
  /** What is kept under `sealAs` besides the disk: the memory, with all that runs when the command has ended. Absent: nothing. */
  readonly snapshot?: 'memory';
  /** Whether the capsule may reach the network. */
  readonly egress: 'none' | 'internet';
}

/** What a run does in `/workspace`. */
export type RunWork =
  /** Shell text, by `bash -c`, or `sh -c` where the image has no bash. */
  | { readonly kind: 'shell'; readonly text: string }
  /**
   * Evaluates the pipeline files of the source with the read-only tools (Node and the DSL, mounted at `/opt/caisson`) and prints the
   * IR on stdout. With `slug` null it takes the only pipeline, or `preferred` of several; `nowS` decides ttl cache keys.
   */
  | {
      readonly kind: 'render';
      readonly slug: string | null;
      readonly preferred: string;
      readonly organization: string;
      readonly nowS: number;
    };

export interface CapsuleShape {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly pids: number;
}

export type OutputStream = 'stdout' | 'stderr' | 'meta';

/** One thing that happened in a run. `seq` starts at 1 and has no gaps. */
export type RunMessage = LeaseRef & { readonly seq: number; readonly atMs: number } & RunEvent;

export type RunEvent =
  /** The command was started inside its capsule. */
  | { readonly kind: 'started' }
  /** Raw bytes in the order the capsule produced them; `meta` lines are the host's own (progress, warnings, markers). */
  | { readonly kind: 'output'; readonly stream: OutputStream; readonly bytes: Uint8Array }
  /** The last message of a run: the capsule is gone and, on a pass with `sealAs`, its disk is sealed. */
  | { readonly kind: 'finished'; readonly result: RunResult };

export type RunResult =
  | { readonly outcome: 'exited'; readonly exitCode: number; readonly signal: number | null }
  | { readonly outcome: 'timed_out' }
  | { readonly outcome: 'canceled' }
  /** The run could not be carried out, or ended for a reason that is not the command's own. `message` says what to do. */
  | { readonly outcome: 'failed'; readonly code: RunFailureCode; readonly message: string };

export type RunFailureCode =
  | 'image_unavailable'
  | 'source_invalid'
  | 'provision_failed'
  | 'snapshot_missing'
  | 'snapshot_failed'
  | 'out_of_memory'
  | 'disk_full'
  | 'sandbox_lost'
  | 'tools_unavailable';
