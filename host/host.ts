import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  CancelReason,
  HostApi,
  HostDescription,
  LeaseRef,
  RunAck,
  RunAssignment,
} from '@caisson/contracts/host-api';
import type { LayerStore, SourceStore } from './layer-store.ts';
import type { MachineDriver } from './machine-driver.ts';
import { noHistory, type Run, type RunHistory, startRun } from './run.ts';
import { createJournal, openJournal, type RunJournal } from './run-journal.ts';
import type { Provisioner } from './run-provision.ts';
import { watchRuns } from './run-watch.ts';

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
}

/** A run as the watcher sees it. */
export interface WatchedRun {
  readonly journal: RunJournal;
  /** Byte position in the journal up to which the present watcher was served. */
  position: number;
}

/**
 * Starts the host on its data directory: takes up the runs an earlier process left, removes every capsule that belongs to none,
 * and is ready for work.
 */
export async function createHost(parts: HostParts): Promise<Host> {
  const runsDir = join(parts.dataDir, 'runs');
  await mkdir(runsDir, { recursive: true });
  const runs = new Map<string, WatchedRun & { run: Run | null }>();
  const watcher = watchRuns(runs);

  function begin(journal: RunJournal, history: RunHistory): void {
    const run = startRun({ provisioner: parts.provisioner, onRecord: watcher.wake }, journal, history);
    runs.set(journal.assignment.leaseId, { journal, position: 0, run });
    run.finished.catch(() => {});
  }

  await recover(parts, runsDir, {
    begin,
    keep: (journal) => runs.set(journal.assignment.leaseId, { journal, position: 0, run: null }),
  });

  const starting = new Map<string, Promise<void>>();
  return {
    describe: async () => parts.description,
    heartbeat: async () => ({
      hostId: parts.description.hostId,
      leases: [...runs.values()].map(({ journal }) => ({
        leaseId: journal.assignment.leaseId,
        fence: journal.assignment.fence,
      })),
    }),
    hasBlob: (digest) => parts.sources.has(digest),
    putBlob: (digest, bytes) => parts.sources.put(digest, bytes),
    async startRun(assignment: RunAssignment) {
      const { leaseId } = assignment;
      if (runs.has(leaseId)) return;
      const start =
        starting.get(leaseId) ?? createJournal(runsDir, assignment).then((journal) => begin(journal, noHistory));
      starting.set(leaseId, start);
      await start.finally(() => starting.delete(leaseId));
    },
    async cancelRun(lease: LeaseRef, reason: CancelReason) {
      runs.get(lease.leaseId)?.run?.cancel(reason);
    },
    watch: (signal) => watcher.messages(signal),
    async acknowledge(acks: readonly RunAck[]) {
      for (const { leaseId, seq } of acks) {
        const entry = runs.get(leaseId);
        if (entry === undefined || seq < entry.journal.lastSeq) continue;
        if (!(await isFinished(entry.journal))) continue;
        runs.delete(leaseId);
        await entry.journal.remove();
      }
    },
    async releaseLayer(layerId) {
      await parts.layers.release(layerId);
      await parts.layers.collect();
    },
    async close({ end }) {
      watcher.close();
      const live = [...runs.values()];
      if (end) {
        for (const { run } of live) run?.cancel('lost');
        await Promise.all(live.map(({ run }) => run?.finished.catch(() => {})));
      }
      await parts.driver.close();
      for (const { journal } of live) await journal.close().catch(() => {});
    },
  };
}

async function isFinished(journal: RunJournal): Promise<boolean> {
  return (await historyOf(journal)).isFinished;
}

async function recover(
  parts: HostParts,
  runsDir: string,
  take: { begin: (journal: RunJournal, history: RunHistory) => void; keep: (journal: RunJournal) => void },
): Promise<void> {
  const owned = new Set<string>();
  for (const name of await readdir(runsDir)) {
    if (name.startsWith('.tmp-')) {
      await rm(join(runsDir, name), { recursive: true, force: true });
      continue;
    }
    const journal = await openJournal(runsDir, name);
    const { isFinished: isOver, ...history } = await historyOf(journal);
    if (isOver) take.keep(journal);
    else {
      owned.add(journal.assignment.capsuleId);
      take.begin(journal, history);
    }
  }
  for (const capsuleId of await parts.provisioner.list()) {
    if (!owned.has(capsuleId)) await parts.provisioner.discard(capsuleId);
  }
}

/** What the journal says a run has done so far. */
async function historyOf(journal: RunJournal): Promise<RunHistory & { isFinished: boolean }> {
  const { records } = await journal.read(0, Number.MAX_SAFE_INTEGER);
  const started = records.find(({ event }) => event.kind === 'started');
  const outputs = records.filter(({ guestOffset }) => guestOffset !== undefined);
  return {
    started: started?.processId === undefined ? null : { processId: started.processId, atMs: started.atMs },
    guestOffset: outputs.at(-1)?.guestOffset ?? 0,
    outputBytes: outputs.reduce((sum, { event }) => sum + (event.kind === 'output' ? event.bytes.length : 0), 0),
    cancelReason: null,
    isFinished: records.at(-1)?.event.kind === 'finished',
  };
}
