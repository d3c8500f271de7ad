import type { RunMessage } from '@caisson/contracts/host-api';

const maxWaitingBytes = 8 * 2 ** 20;
const messageOverheadBytes = 256;
const messagesPerBatch = 2_000;

/** Messages of several leases, each lease's in order. */
export type MessageBatch = ReadonlyMap<string, readonly RunMessage[]>;

/**
 * Hands the messages of a host to `store`, per lease in order and as many at once as have come in meanwhile. Leases that only print go
 * beside those whose state changes, so that neither waits for the other. `push` waits while too much is undone, so that a flood stays
 * on the host's disk.
 */
export interface MessageQueue {
  push(message: RunMessage): Promise<void>;
  /** Resolves when everything pushed was stored; rejects with the first failure. */
  drain(): Promise<void>;
}

interface Lane {
  waiting: RunMessage[];
  isBusy: boolean;
}

type Worker = 'output' | 'state';

export function makeMessageQueue(store: (batch: MessageBatch) => Promise<void>, onFailure: () => void): MessageQueue {
  const lanes = new Map<string, Lane>();
  const working: Record<Worker, Promise<void> | null> = { output: null, state: null };
  let waitingBytes = 0;
  let room = Promise.withResolvers<void>();
  let failure: { readonly error: unknown } | null = null;

  function take(worker: Worker): Map<string, RunMessage[]> {
    const batch = new Map<string, RunMessage[]>();
    let count = 0;
    for (const [leaseId, lane] of lanes) {
      if (lane.isBusy || lane.waiting.length === 0 || workerOf(lane) !== worker) continue;
      batch.set(leaseId, lane.waiting);
      count += lane.waiting.length;
      lane.waiting = [];
      lane.isBusy = true;
      if (count >= messagesPerBatch) break;
    }
    return batch;
  }

  async function work(worker: Worker): Promise<void> {
    // What has come in the same turn goes into one batch.
    await new Promise(setImmediate);
    for (let batch = take(worker); batch.size > 0 && failure === null; batch = take(worker)) {
      try {
        await store(batch);
      } catch (error) {
        failure ??= { error };
        onFailure();
      }
      for (const [leaseId, messages] of batch) {
        waitingBytes -= messages.reduce((sum, message) => sum + sizeOf(message), 0);
        const lane = lanes.get(leaseId);
        if (lane === undefined) continue;
        lane.isBusy = false;
        if (lane.waiting.length === 0) lanes.delete(leaseId);
      }
      room.resolve();
      start();
    }
    working[worker] = null;
  }

  /** Puts those to work that have something to do. */
  function start(): void {
    for (const worker of ['state', 'output'] as const) {
      const hasWork = [...lanes.values()].some(
        (lane) => !lane.isBusy && lane.waiting.length > 0 && workerOf(lane) === worker,
      );
      if (working[worker] === null && hasWork && failure === null) working[worker] = work(worker);
    }
  }

  return {
    async push(message) {
      while (waitingBytes > maxWaitingBytes && failure === null) {
        room = Promise.withResolvers<void>();
        await room.promise;
      }
      if (failure !== null) throw failure.error;
      waitingBytes += sizeOf(message);
      const lane = lanes.get(message.leaseId);
      if (lane === undefined) lanes.set(message.leaseId, { waiting: [message], isBusy: false });
      else lane.waiting.push(message);
      if (working[message.kind === 'output' ? 'output' : 'state'] === null) start();
    },
    async drain() {
      while (working.output !== null || working.state !== null) await Promise.all([working.output, working.state]);
      if (failure !== null) throw failure.error;
    },
  };
}

function workerOf({ waiting }: Lane): Worker {
  return waiting.every(({ kind }) => kind === 'output') ? 'output' : 'state';
}

function sizeOf(message: RunMessage): number {
  return messageOverheadBytes + (message.kind === 'output' ? message.bytes.length : 0);
}
