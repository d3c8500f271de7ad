import { createHash } from 'node:crypto';
import { AppError } from '@caisson/contracts/app-error';
import type {
  CancelReason,
  HostDescription,
  HostHeartbeat,
  LayerCopy,
  LayerUpload,
  LeaseRef,
  RunAck,
  RunAssignment,
  RunMessage,
} from '@caisson/contracts/host-api';
import type { HostTraits } from './scenario.ts';
import { beginRun, failed, finishRun, type RunPlace, type SimulatedRun, stopRun } from './simulated-run.ts';
import type { RunRecord, World } from './world.ts';

/** The receiving end of `HostApi.watch`. */
export interface MessageStream {
  isOpen: boolean;
  send(message: RunMessage): void;
  close(why: string): void;
}

/**
 * A host that keeps to `contracts/host-api.ts`: an assignment is durable before the call is answered, messages have no gaps and are
 * sent until they are acknowledged, the capsules outlive the process. How long anything takes is the seed's.
 */
export interface SimulatedHost {
  readonly name: string;
  readonly id: string;
  readonly isUp: boolean;
  readonly layers: ReadonlySet<string>;
  /** How many processes it has had: a call that was sent to one is not heard by the next. */
  readonly processes: number;
  /** Runs it has not forgotten. */
  leases(): readonly LeaseRef[];
  describe(): HostDescription;
  heartbeat(): HostHeartbeat;
  hasBlob(digest: string): boolean;
  putBlob(digest: string, bytes: Uint8Array): void;
  startRun(assignment: RunAssignment): void;
  cancelRun(lease: LeaseRef, reason: CancelReason): void;
  watch(stream: MessageStream): void;
  acknowledge(acks: readonly RunAck[]): void;
  releaseLayer(layerId: string): void;
  describeLayer(layerId: string): readonly LayerCopy[] | null;
  hasLayer(copyId: string): boolean;
  readLayer(copyId: string): Uint8Array;
  putLayer(layer: LayerUpload, bytes: Uint8Array): void;
  /** The process ends; its capsules go on, and it comes back to them. */
  crash(downMs: number): void;
  /** Everything on its disk is gone, and another process begins on an empty one. */
  wipe(): void;
}

/** What a host has: on its disk, and in its process. */
interface HostState extends RunPlace {
  readonly blobs: Map<string, Uint8Array>;
  readonly runs: Map<string, SimulatedRun>;
  wipes: number;
  processes: number;
  /** Leases that are over, as long as the process lives: a call that comes late does not begin them anew. */
  readonly over: Set<string>;
  isUp: boolean;
  stream: MessageStream | null;
  /** What would have happened while the process was away. */
  parked: (() => void)[];
}

const quickProvisionMs = 100;
const slowProvisionMs = 3_000;

interface HostOptions extends HostTraits {
  readonly name: string;
  readonly id: string;
}

export function openHost(world: World, { name, id, room, memoryVersion }: HostOptions): SimulatedHost {
  const state = makeState(world, { name, memoryVersion });
  const { blobs, layers, memories, runs } = state;
  const driver = memoryVersion === null ? 'container' : 'microvm';
  const runtime = memoryVersion === null ? 'simulated' : `simulated ${memoryVersion}`;
  const leases = () => [...runs.values()].map(({ assignment: { leaseId, fence } }) => ({ leaseId, fence }));
  return {
    ...{ name, id, layers, leases },
    get isUp() {
      return state.isUp;
    },
    get processes() {
      return state.processes;
    },
    describe: () => ({
      ...{ hostId: id, protocol: 1 },
      driver: { driver, runtime, memorySnapshots: memoryVersion !== null },
      capacity: { cpus: room, memoryBytes: 2 ** 40, diskBytes: 2 ** 50 },
    }),
    heartbeat: () => ({ hostId: id, leases: leases() }),
    hasBlob: (digest) => blobs.has(digest),
    putBlob(digest, bytes) {
      checkDigest(digest, bytes);
      blobs.set(digest, bytes);
    },
    startRun: (assignment) => takeRun(world, state, assignment),
    cancelRun({ leaseId, fence }, reason) {
      const run = runs.get(leaseId);
      if (run === undefined) return;
      if (run.assignment.fence !== fence)
        world.fail('contract', `${name} was told to end fence ${fence} of another lease`);
      stopRun(world, state, { run, reason });
    },
    watch(next) {
      state.stream?.close('another one watches');
      state.stream = next;
      for (const run of runs.values()) run.sent = run.acknowledged;
      state.onMessage();
    },
    acknowledge: (acks) => acknowledge(world, state, acks),
    releaseLayer(layerId) {
      for (const kept of [layers, state.copies, memories]) kept.delete(layerId);
    },
    describeLayer: (layerId) =>
      hasLayer(state, layerId) ? [{ copyId: layerId, kind: 'sealed', driver, below: [] }] : null,
    hasLayer: (copyId) => hasLayer(state, copyId),
    readLayer(copyId) {
      if (!hasLayer(state, copyId)) throw new Error('snapshot_missing');
      return Buffer.from(`${copyId} ${memories.get(copyId) ?? ''}`);
    },
    putLayer({ copyId, digest, isForMemory }, bytes) {
      checkDigest(digest, bytes);
      const [given, version] = Buffer.from(bytes).toString().split(' ');
      if (given !== copyId) world.fail('contract', `${name} was given another layer as ${copyId}`);
      if (isForMemory && version !== `${memoryVersion}`)
        throw new AppError('snapshot_failed', `the memory is of version ${version || 'none'}`);
      if (version) memories.set(copyId, Number(version));
      world.history.say(name, `gets the disk ${copyId.slice(-4)} of another host`);
      world.stats.copies += 1;
      state.copies.add(copyId);
    },
    crash: (downMs) => crash(world, state, downMs),
    wipe() {
      world.history.say(name, 'loses everything on its disk');
      state.wipes += 1;
      endProcess(state);
      for (const { record } of runs.values()) record.isWiped = true;
      for (const lost of [runs, layers, state.copies, memories, blobs]) lost.clear();
    },
  };
}

function makeState({ timeline }: World, named: Pick<HostOptions, 'name' | 'memoryVersion'>): HostState {
  const state: HostState = {
    ...named,
    ...{ wipes: 0, processes: 1, over: new Set<string>(), isUp: true, stream: null, parked: [] },
    ...{
      layers: new Set(),
      copies: new Set(),
      memories: new Map(),
      blobs: new Map(),
      failures: new Map(),
      runs: new Map(),
    },
    later(run, delayMs, work) {
      const happen = () => {
        if (state.runs.get(run.assignment.leaseId) !== run || run.isFinished) return;
        if (state.isUp) work();
        else state.parked.push(happen);
      };
      timeline.after(delayMs, happen);
    },
    onMessage() {
      const { stream, isUp } = state;
      if (stream?.isOpen !== true || !isUp) return;
      for (const run of state.runs.values()) {
        for (const message of run.messages.slice(run.sent)) stream.send(message);
        run.sent = run.messages.length;
      }
    },
  };
  return state;
}

function hasLayer({ layers, copies }: HostState, layerId: string): boolean {
  return layers.has(layerId) || copies.has(layerId);
}

function checkDigest(digest: string, bytes: Uint8Array): void {
  if (createHash('sha256').update(bytes).digest('hex') !== digest) throw new Error('blob_digest_mismatch');
}

function takeRun(world: World, state: HostState, assignment: RunAssignment): void {
  const { name, over, runs } = state;
  const { leaseId, fence, env, work } = assignment;
  if (runs.has(leaseId) || over.has(leaseId)) return;
  const run: SimulatedRun = {
    ...{ assignment, record: recordOf(world, assignment), messages: [], reason: null },
    ...{ isStarted: false, isFinished: false, sent: 0, acknowledged: 0 },
  };
  runs.set(leaseId, run);
  const { CAISSON_JOB_KEY: key = work.kind } = env;
  world.history.say(name, `fence ${fence}: takes ${key}`);
  const longestMs = world.draws.chance(0.1, `${name} slow`) ? slowProvisionMs : quickProvisionMs;
  state.later(run, world.draws.unit(`${name} provision`) * longestMs, () => beginRun(world, state, run));
}

/** A lease that comes a second time, after its disk was wiped, is a new run to the host. */
function recordOf({ ledger, records, fail }: World, { leaseId, fence }: RunAssignment): RunRecord {
  const known = records.get(leaseId);
  if (known?.isWiped === false) return known;
  if (known !== undefined && (ledger.leases.get(leaseId)?.seq ?? 0) > 0) {
    fail('I4', `fence ${fence} is run again from its start, and messages of its first run are in the log`);
  }
  const record = { leaseId, fence, messages: [], begun: 0, lastDelivered: 0, isWiped: false };
  records.set(leaseId, record);
  return record;
}

function acknowledge({ fail, history }: World, { name, over, runs }: HostState, acks: readonly RunAck[]): void {
  for (const { leaseId, seq } of acks) {
    const run = runs.get(leaseId);
    if (run === undefined) continue;
    if (seq > run.messages.length) fail('I4', `message ${seq} was acknowledged and never written`);
    run.acknowledged = Math.max(run.acknowledged, seq);
    if (!run.isFinished || seq < run.messages.length) continue;
    runs.delete(leaseId);
    over.add(leaseId);
    history.say(name, `fence ${run.assignment.fence}: everything is acknowledged; forgets it`);
  }
}

function crash(world: World, state: HostState, downMs: number): void {
  if (!state.isUp) return;
  state.isUp = false;
  endProcess(state);
  world.history.say(state.name, 'crashes');
  world.stats.hostCrashes += 1;
  world.timeline.after(downMs, () => recover(world, state));
}

/** What it knew by heart is gone, and so are the calls that were on their way to it. */
function endProcess(state: HostState): void {
  state.processes += 1;
  state.over.clear();
  state.stream?.close('the host is gone');
  state.stream = null;
}

/** The next process takes up the runs of the last; now and then a capsule did not live that long. */
function recover(world: World, state: HostState): void {
  const { name } = state;
  state.isUp = true;
  world.history.say(name, 'is back');
  for (const run of state.runs.values()) {
    const isDead = run.isStarted && !run.isFinished && world.draws.chance(0.15, `${name} capsule died`);
    if (isDead) finishRun(world, state, { run, result: failed('sandbox_lost') });
  }
  const waiting = state.parked;
  state.parked = [];
  for (const happen of waiting) world.timeline.after(world.draws.unit(`${name} recovers`) * 100, happen);
}
