import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { HostApi, HostDescription, LeaseRef, RunAck, RunAssignment } from '@caisson/contracts/host-api';
import { diskRoom } from './disk-room.ts';
import { createDiskWatch, type DiskWatch } from './disk-watch.ts';
import { type FinishedLeases, openFinishedLeases } from './finished-leases.ts';
import type { LayerStore, SourceStore } from './layer-store.ts';
import type { MachineDriver } from './machine-driver.ts';
import { noHistory, type Run, type RunHistory, startRun } from './run.ts';
import { createJournal, openJournal, type RunJournal } from './run-journal.ts';
import type { Provisioner } from './run-provision.ts';
import { watchRuns } from './run-watch.ts';
import { createStrays, type Strays } from './strays.ts';

/** A host that runs in this process. */
export interface Host extends HostApi {
  /**
   * Stops supervising. Capsules run on and are taken up by the next host on this data directory, unless `end` is set: then every
   * run is ended first.
   */
  close(options: { end: boolean }): Promise<void>;
}

export interface HostParts {
  readonly description: HostDescription;
  readonly dataDir: string;
  readonly driver: MachineDriver;
  readonly layers: LayerStore;
  readonly sources: SourceStore;
  readonly provisioner: Provisioner;
  /** Default: one with the usual interval and reserve. */
  readonly diskWatch?: DiskWatch;
  /** Gets lines about what does not keep the host from its work, but is not as it has to be. */
  readonly warn?: (line: string) => void;
}

/** A run as the watcher sees it. */
export interface WatchedRun {
  readonly journal: RunJournal;
  /** Byte position in the journal up to which the present watcher was served. */
  position: number;
  /** Where a new watcher begins. */
  acknowledgedPosition: number;
  /** What the present watcher was served and has not acknowledged: where in the journal each window ends. */
  unacknowledged: { readonly lastSeq: number; readonly position: number }[];
}

function watched(journal: RunJournal): WatchedRun {
  return { journal, position: 0, acknowledgedPosition: 0, unacknowledged: [] };
}

const lastWordsMs = 3_000;
const historyWindowBytes = 2 ** 20;

/**
 * Starts the host on its data directory: takes up the runs an earlier process left, removes every capsule that belongs to none,
 * and is ready for work.
 */
export async function createHost(parts: HostParts): Promise<Host> {
  const runsDir = join(parts.dataDir, 'runs');
  await mkdir(runsDir, { recursive: true });
  const runs = new Map<string, HostRun>();
  const watcher = watchRuns(runs);
  const diskWatch = parts.diskWatch ?? createDiskWatch();
  let allHeard = Promise.withResolvers<void>();

  function begin(journal: RunJournal, history: RunHistory): void {
    const run = startRun({ provisioner: parts.provisioner, diskWatch, onRecord: watcher.wake }, journal, history);
    runs.set(journal.assignment.leaseId, { ...watched(journal), run });
    run.finished.catch(() => {});
  }

  const strays = await recover(parts, runsDir, {
    begin,
    keep: (journal) => runs.set(journal.assignment.leaseId, { ...watched(journal), run: null }),
  });

  /** Whoever watches is given a moment to acknowledge what is left; the rest is told to the next one. */
  async function heard(withinMs: number): Promise<void> {
    if (runs.size === 0) return;
    allHeard = Promise.withResolvers<void>();
    const timer = setTimeout(allHeard.resolve, withinMs);
    await allHeard.promise;
    clearTimeout(timer);
  }

  const starting = new Map<string, Promise<void>>();
  // A control plane that stood still for a while may hand over once more what another one brought to its end meanwhile.
  const over = await openFinishedLeases(join(parts.dataDir, 'finished-leases'));
  let isClosing = false;
  return {
    describe: async () => parts.description,
    async heartbeat() {
      void strays.retry();
      const refused = await refusal(parts);
      return {
        hostId: parts.description.hostId,
        leases: [...runs.values()].map(({ journal: { assignment } }) => leaseOf(assignment)),
        ...refused,
      };
    },
    hasBlob: (digest) => parts.sources.has(digest),
    putBlob: (digest, bytes) => parts.sources.put(digest, bytes),
    async startRun(assignment: RunAssignment) {
      const { leaseId } = assignment;
      if (runs.has(leaseId) || over.has(leaseId)) return;
      if (isClosing) throw new AppError('service_unavailable', 'the host stops; give the job to another one');
      const start =
        starting.get(leaseId) ?? createJournal(runsDir, assignment).then((journal) => begin(journal, noHistory));
      starting.set(leaseId, start);
      await start.finally(() => starting.delete(leaseId));
    },
    async cancelRun({ leaseId }, reason) {
      runs.get(leaseId)?.run?.cancel(reason);
      crashPoint('cancel.taken');
    },
    watch: (signal) => watcher.messages(signal),
    acknowledge: (acks) =>
      forget(runs, acks, over).finally(() => {
        if (runs.size === 0) allHeard.resolve();
      }),
    ...layerCalls(parts),
    async close({ end }) {
      isClosing = true;
      await Promise.allSettled(starting.values());
      await letGo([...runs.values()], end);
      if (end) await heard(lastWordsMs);
      watcher.close();
      await strays.retry();
      await parts.driver.close();
      for (const { journal } of runs.values()) await journal.close().catch(() => {});
      await over.close();
    },
  };
}

type LayerCalls = Pick<HostApi, 'releaseLayer' | 'describeLayer' | 'hasLayer' | 'readLayer' | 'putLayer'>;

function layerCalls({ layers, provisioner }: HostParts): LayerCalls {
  return {
    async releaseLayer(layerId) {
      // On a full disk the mark can be written only when the disk it marks is gone, or another one.
      await layers.release(layerId).finally(() => layers.collect());
    },
    describeLayer: (layerId) => layers.describe(layerId),
    hasLayer: (copyId) => layers.hasCopy(copyId),
    readLayer: (copyId) => layers.readCopy(copyId),
    putLayer: (layer, bytes) =>
      layers.addCopy(layer, bytes, async (directory) => {
        if (layer.isForMemory) await provisioner.checkMemory(directory);
      }),
  };
}

/** Why there should be no further runs now; nothing when there may be. */
async function refusal({ dataDir, layers }: HostParts): Promise<{ readonly refuses?: string }> {
  const { lack } = await diskRoom(dataDir);
  if (lack === null) return {};
  // What nobody needs now goes before anybody has to wait.
  void layers.collect().catch(() => {});
  return { refuses: lack };
}

type HostRun = WatchedRun & { readonly run: Run | null };

/** Takes note of what is stored elsewhere and forgets the runs of which everything is, but for their leases. */
async function forget(runs: Map<string, HostRun>, acks: readonly RunAck[], over: FinishedLeases): Promise<void> {
  for (const { leaseId, seq } of acks) {
    const entry = runs.get(leaseId);
    if (entry === undefined || !isOverWith(entry, seq)) continue;
    runs.delete(leaseId);
    // Where it cannot be written this process knows it still.
    await over.add(leaseId).catch(() => {});
    crashPoint('ack.taken');
    await entry.journal.remove();
    crashPoint('ack.forgotten');
  }
}

/** Ends the runs, or leaves them to the next host. */
async function letGo(runs: readonly HostRun[], end: boolean): Promise<void> {
  for (const { run, journal } of runs) {
    if (end) run?.cancel('lost');
    else run?.leave();
    journal.stopWaiting();
  }
  await Promise.all(runs.map(({ run }) => run?.finished.catch(() => {})));
}

function leaseOf({ leaseId, fence }: RunAssignment): LeaseRef {
  return { leaseId, fence };
}

/** Notes that everything up to `seq` is stored elsewhere; true when that was the last of the run. */
function isOverWith(run: WatchedRun, seq: number): boolean {
  while (run.unacknowledged[0] !== undefined && run.unacknowledged[0].lastSeq <= seq) {
    run.acknowledgedPosition = run.unacknowledged.shift()?.position ?? 0;
  }
  return run.journal.isFinished && seq >= run.journal.lastSeq;
}

async function recover(
  parts: HostParts,
  runsDir: string,
  take: { begin: (journal: RunJournal, history: RunHistory) => void; keep: (journal: RunJournal) => void },
): Promise<Strays> {
  const owned = new Set<string>();
  for (const name of await readdir(runsDir)) {
    if (name.startsWith('.tmp-')) {
      await rm(join(runsDir, name), { recursive: true, force: true });
      continue;
    }
    // One that is not readable is forgotten: the control plane misses its lease and gives the job out again.
    const journal = await openJournal(runsDir, name).catch(() => null);
    if (journal === null) await rm(join(runsDir, name), { recursive: true, force: true });
    else if (journal.isFinished) take.keep(journal);
    else {
      owned.add(journal.assignment.capsuleId);
      take.begin(journal, await historyOf(journal));
    }
  }
  const remove = async (capsuleId: string) => {
    await parts.provisioner.discard(capsuleId);
    crashPoint('recover.discarded');
  };
  const strays = createStrays({ kind: 'capsule', remove, warn: parts.warn ?? (() => {}) });
  for (const capsuleId of await parts.provisioner.list()) if (!owned.has(capsuleId)) strays.add(capsuleId);
  await strays.retry();
  return strays;
}

/** What the journal says a run has done so far. */
async function historyOf(journal: RunJournal): Promise<RunHistory> {
  let started: RunHistory['started'] = null;
  let guestOffset = 0;
  let outputBytes = 0;
  let isMarked = false;
  for (let position = 0; position < journal.size; ) {
    const part = await journal.read(position, historyWindowBytes);
    position = part.position;
    for (const { event, processId, steadyMs = null, guestOffset: offset } of part.records) {
      if (event.kind === 'started' && processId !== undefined) started = { processId, steadyMs };
      if (event.kind !== 'output' || offset === undefined) continue;
      guestOffset = offset;
      if (event.stream === 'meta') isMarked = true;
      else outputBytes += event.bytes.length;
    }
  }
  return { started, guestOffset: Math.max(guestOffset, journal.droppedTo), outputBytes, isMarked };
}
