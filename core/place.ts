/** What a capsule takes from a host. */
export interface Resources {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

/** One host as the control plane sees it now. */
export interface HostView {
  readonly hostId: string;
  /** `draining` takes only work that needs a disk it holds; `lost` answers nothing. */
  readonly status: 'online' | 'draining' | 'lost';
  /** Everything it has. */
  readonly capacity: Resources;
  /** Whether a snapshot can hold memory there. */
  readonly memorySnapshots: boolean;
  /** Taken by the capsules it holds. */
  readonly used: Resources;
}

export interface PlaceRequest extends Resources {
  /** Hosts with the sealed disk this one starts from; null when it starts from an image. */
  readonly snapshotHostIds: readonly string[] | null;
  /** Hosts that disk may be copied to when none that has it has room. */
  readonly copyHostIds: readonly string[];
  /** It, or one that grows out of its disk, keeps memory. Counts for one that starts from an image: the rest is bound to its host. */
  readonly needsMemorySnapshots: boolean;
}

export type Placement =
  | { readonly ok: true; readonly hostId: string }
  /** `message` is what a person who asks "why does this wait" gets to read. */
  | { readonly ok: false; readonly reason: WaitReason; readonly message: string };

/**
 * `no_capacity`: a host that could take it is busy. `no_host`: none there is big enough, or none is there at all.
 * `snapshot_host_gone`: no host that answers holds the disk it starts from.
 */
export type WaitReason = 'no_capacity' | 'no_host' | 'snapshot_host_gone';

/**
 * The host for one capsule: of those with room, the ones that have its disk before those it would have to be copied to, the one left with the largest share of free processors, then memory, then the
 * smallest id. The same view and request always give the same answer.
 */
export function place(hosts: readonly HostView[], request: PlaceRequest): Placement {
  const candidates = hosts.filter((host) => isCandidate(host, request));
  const hostId = bestWithRoom(candidates, request) ?? bestWithRoom(copyCandidates(hosts, request), request);
  if (hostId !== null) return { ok: true, hostId };
  if (candidates.length === 0) return nobody(hosts, request);
  const isAnyLarge = candidates.some((host) => fits(request, host.capacity));
  return isAnyLarge ? noCapacity : { ok: false, reason: 'no_host', message: tooSmall(candidates, request) };
}

function bestWithRoom(hosts: readonly HostView[], request: PlaceRequest): string | null {
  const free = hosts.filter((host) => fits(request, host.capacity) && fits(request, freeOf(host)));
  const [first, ...rest] = free;
  if (first === undefined) return null;
  return rest.reduce((best, host) => (isBetter(host, best, request) ? host : best), first).hostId;
}

function copyCandidates(hosts: readonly HostView[], { copyHostIds, needsMemorySnapshots }: PlaceRequest): HostView[] {
  return hosts.filter(
    ({ hostId, status, memorySnapshots }) =>
      status === 'online' && (memorySnapshots || !needsMemorySnapshots) && copyHostIds.includes(hostId),
  );
}

function isCandidate({ hostId, status, memorySnapshots }: HostView, request: PlaceRequest): boolean {
  const { snapshotHostIds, needsMemorySnapshots } = request;
  if (snapshotHostIds === null) return status === 'online' && (memorySnapshots || !needsMemorySnapshots);
  return status !== 'lost' && snapshotHostIds.includes(hostId);
}

function nobody(hosts: readonly HostView[], { snapshotHostIds, needsMemorySnapshots }: PlaceRequest): Placement {
  if (snapshotHostIds !== null) return snapshotHostGone;
  const there = hosts.filter(({ status }) => status !== 'lost');
  const isAnyAble = there.some(({ memorySnapshots }) => memorySnapshots);
  return needsMemorySnapshots && there.length > 0 && !isAnyAble ? noMemoryHost : noHost;
}

function fits(request: Resources, room: Resources): boolean {
  return request.cpus <= room.cpus && request.memoryBytes <= room.memoryBytes && request.diskBytes <= room.diskBytes;
}

function freeOf({ capacity, used }: HostView): Resources {
  return {
    cpus: capacity.cpus - used.cpus,
    memoryBytes: capacity.memoryBytes - used.memoryBytes,
    diskBytes: capacity.diskBytes - used.diskBytes,
  };
}

function isBetter(host: HostView, other: HostView, request: Resources): boolean {
  for (const kind of ['cpus', 'memoryBytes'] as const) {
    const difference = shareLeft(host, request, kind) - shareLeft(other, request, kind);
    if (difference !== 0) return difference > 0;
  }
  return host.hostId < other.hostId;
}

function shareLeft(host: HostView, request: Resources, kind: 'cpus' | 'memoryBytes'): number {
  const total = host.capacity[kind];
  return total === 0 ? 0 : (total - host.used[kind] - request[kind]) / total;
}

function tooSmall(hosts: readonly HostView[], request: Resources): string {
  const most = (kind: keyof Resources): number => Math.max(...hosts.map(({ capacity }) => capacity[kind]));
  return (
    `It asks for ${describe(request)}; no host here has that much. ` +
    `The most any has: ${describe({ cpus: most('cpus'), memoryBytes: most('memoryBytes'), diskBytes: most('diskBytes') })}.`
  );
}

function describe({ cpus, memoryBytes, diskBytes }: Resources): string {
  const mebibytes = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
  return `${cpus} cpus, ${mebibytes(memoryBytes)} memory, ${mebibytes(diskBytes)} disk`;
}

const noHost: Placement = { ok: false, reason: 'no_host', message: 'No host takes work right now.' };
const noMemoryHost: Placement = {
  ok: false,
  reason: 'no_host',
  message:
    'This step, or one that builds in it, is to keep its memory (snapshot: "memory"), and no host that is there can ' +
    'do that. Start one with --driver microvm or --driver gvisor.',
};
const noCapacity: Placement = { ok: false, reason: 'no_capacity', message: 'Every host that could take it is busy.' };
const snapshotHostGone: Placement = {
  ok: false,
  reason: 'snapshot_host_gone',
  message: 'The host with the disk of the step it builds in does not answer.',
};
