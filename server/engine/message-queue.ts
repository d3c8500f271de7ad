import type { RunMessage } from '@caisson/contracts/host-api';

const maxWaitingBytes = 8 * 2 ** 20;
const messageOverheadBytes = 256;

/**
 * Hands the messages of a host to `store`, per lease in order and as many at once as have come in meanwhile, leases beside each
 * other. `push` waits while too much is undone, so that a flood stays on the host's disk.
 */
export interface MessageQueue {
  push(message: RunMessage): Promise<void>;
  /** Resolves when everything pushed was stored; rejects with the first failure. */
  drain(): Promise<void>;
}

export function makeMessageQueue(
  store: (messages: readonly RunMessage[]) => Promise<void>,
  onFailure: () => void,
): MessageQueue {
  const lanes = new Map<string, { waiting: RunMessage[]; working: Promise<void> }>();
  let waitingBytes = 0;
  let room = Promise.withResolvers<void>();
  let failure: unknown;

  async function work(leaseId: string): Promise<void> {
    const lane = lanes.get(leaseId);
    while (lane !== undefined && lane.waiting.length > 0 && failure === undefined) {
      const messages = lane.waiting.splice(0);
      try {
        await store(messages);
      } catch (error) {
        failure ??= error;
        onFailure();
      }
      waitingBytes -= messages.reduce((sum, message) => sum + sizeOf(message), 0);
      room.resolve();
    }
    lanes.delete(leaseId);
  }

  return {
    async push(message) {
      while (waitingBytes > maxWaitingBytes && failure === undefined) {
        room = Promise.withResolvers<void>();
        await room.promise;
      }
      if (failure !== undefined) throw failure;
      waitingBytes += sizeOf(message);
      const lane = lanes.get(message.leaseId);
      if (lane !== undefined) lane.waiting.push(message);
      else {
        lanes.set(message.leaseId, { waiting: [message], working: Promise.resolve() });
        const working = work(message.leaseId);
        const started = lanes.get(message.leaseId);
        if (started !== undefined) started.working = working;
      }
    },
    async drain() {
      while (lanes.size > 0) await Promise.all([...lanes.values()].map(({ working }) => working));
      if (failure !== undefined) throw failure;
    },
  };
}

function sizeOf(message: RunMessage): number {
  return messageOverheadBytes + (message.kind === 'output' ? message.bytes.length : 0);
}
