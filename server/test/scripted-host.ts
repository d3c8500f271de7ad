import { createHash, randomUUID } from 'node:crypto';
import { AppError } from '@caisson/contracts/app-error';
import type {
  CancelReason,
  HostApi,
  HostDescription,
  LeaseRef,
  RunAssignment,
  RunEvent,
  RunMessage,
  RunResult,
} from '@caisson/contracts/host-api';

/** What a scripted run does: it may say things, and returns how it ends. `canceled` resolves when the host is told to end it. */
export type Script = (run: ScriptedRun) => Promise<RunResult> | RunResult;

interface ScriptedRun {
  readonly assignment: RunAssignment;
  readonly canceled: Promise<CancelReason>;
  print(text: string): void;
}

export interface ScriptedHost extends HostApi {
  readonly hostId: string;
  /** Every assignment ever taken, in order. */
  readonly taken: readonly RunAssignment[];
  readonly released: readonly string[];
  /** Ids of layers that came from other hosts. */
  readonly copied: readonly string[];
  /** While true the host answers nothing, as behind a cut cable; its runs go on. */
  isCutOff: boolean;
  /** While true it takes no run, for want of disk. */
  isFull: boolean;
  /** Why it takes no new work, as long as that is not null. */
  refuses: string | null;
  /** What it says of itself to whoever connects. */
  description: HostDescription;
  /** Forgets every run, as if its disk was wiped. */
  wipe(): void;
  /** Forgets one run. */
  forget(leaseId: string): void;
  /** Sends all unacknowledged messages once more. */
  repeat(): void;
}

/** A second body of `HostApi` for tests of the control plane: runs scripts instead of capsules, with the same promises about messages. */
export function scriptedHost(script: Script, hostId: string = randomUUID()): ScriptedHost {
  const runs = new Map<
    string,
    { lease: LeaseRef; messages: RunMessage[]; sent: number; cancel: (reason: CancelReason) => void }
  >();
  const taken: RunAssignment[] = [];
  const released: string[] = [];
  const copied: string[] = [];
  const over = new Set<string>();
  let wakeUp = Promise.withResolvers<void>();
  let watchers = 0;

  function begin(assignment: RunAssignment): void {
    const { leaseId, fence } = assignment;
    const canceled = Promise.withResolvers<CancelReason>();
    const run = { lease: { leaseId, fence }, messages: [] as RunMessage[], sent: 0, cancel: canceled.resolve };
    runs.set(leaseId, run);
    const say = (event: RunEvent) => {
      run.messages.push({ leaseId, fence, seq: run.messages.length + 1, atMs: Date.now(), ...event });
      wakeUp.resolve();
    };
    say({ kind: 'started' });
    const print = (text: string) => say({ kind: 'output', stream: 'stdout', bytes: Buffer.from(text) });
    void Promise.resolve(script({ assignment, canceled: canceled.promise, print })).then((result) =>
      say({ kind: 'finished', result }),
    );
  }

  const host: ScriptedHost = {
    hostId,
    taken,
    released,
    copied,
    isCutOff: false,
    isFull: false,
    refuses: null,
    description: {
      hostId,
      protocol: 1,
      driver: { driver: 'container', runtime: 'scripted', memorySnapshots: false },
      capacity: { cpus: 8, memoryBytes: 2 ** 36, diskBytes: 2 ** 40 },
    },
    wipe: () => runs.clear(),
    forget: (leaseId) => void runs.delete(leaseId),
    repeat() {
      for (const run of runs.values()) run.sent = 0;
      wakeUp.resolve();
    },
    describe: async () => host.description,
    async heartbeat() {
      if (host.isCutOff) throw new Error('cut off');
      const leases = [...runs.values()].map(({ lease }) => lease);
      return { hostId, leases, ...(host.refuses === null ? {} : { refuses: host.refuses }) };
    },
    hasBlob: async () => true,
    putBlob: async () => {},
    async startRun(assignment) {
      if (host.isCutOff) throw new Error('cut off');
      if (runs.has(assignment.leaseId) || over.has(assignment.leaseId)) return;
      if (host.isFull) throw new AppError('disk_full', 'the disk of the host is full');
      taken.push(assignment);
      begin(assignment);
    },
    async cancelRun({ leaseId }, reason) {
      if (host.isCutOff) throw new Error('cut off');
      runs.get(leaseId)?.cancel(reason);
    },
    async *watch(signal) {
      watchers += 1;
      const own = watchers;
      const isServed = () => own === watchers && !signal.aborted;
      wakeUp.resolve();
      signal.addEventListener('abort', () => wakeUp.resolve(), { once: true });
      for (const run of runs.values()) run.sent = 0;
      while (isServed()) {
        for (const run of runs.values()) {
          while (run.sent < run.messages.length && !host.isCutOff && isServed()) {
            const message = run.messages[run.sent];
            run.sent += 1;
            if (message !== undefined) yield message;
          }
        }
        if (!isServed()) return;
        await wakeUp.promise;
        wakeUp = Promise.withResolvers<void>();
      }
    },
    async acknowledge(acks) {
      for (const { leaseId, seq } of acks) {
        const run = runs.get(leaseId);
        if (run?.messages.at(-1)?.kind !== 'finished' || seq < run.messages.length) continue;
        runs.delete(leaseId);
        over.add(leaseId);
      }
    },
    async releaseLayer(layerId) {
      released.push(layerId);
    },
    describeLayer: async (layerId) => [{ copyId: layerId, kind: 'sealed', driver: 'container', below: [] }],
    hasLayer: async (copyId) => copied.includes(copyId),
    async *readLayer(copyId) {
      yield Buffer.from(copyId);
    },
    async putLayer({ copyId, digest }, bytes) {
      const hash = createHash('sha256');
      for await (const chunk of bytes) hash.update(chunk);
      if (hash.digest('hex') !== digest) throw new AppError('blob_digest_mismatch', `not the bytes of ${copyId}`);
      copied.push(copyId);
    },
  };
  return host;
}

/** The result of a command that ended by itself. */
export function exited(exitCode: number): RunResult {
  return { outcome: 'exited', exitCode, signal: null };
}

/** Every command passes; all, or those of this text, wait for `go` first. */
export function passAfter(go: Promise<void>, text?: string): Script {
  return async ({ assignment: { work } }) => {
    if (text === undefined || (work.kind === 'shell' && work.text === text)) await go;
    return exited(0);
  };
}
