/** Simulated time: what is going to happen, in the order in which it will. Nothing takes time but waiting for the next event. */
export interface Timeline {
  /** Milliseconds since the epoch, with fractions. */
  readonly nowMs: number;
  /** How many events have happened. */
  readonly eventCount: number;
  /** Has `run` happen in `delayMs` from now; returns what takes it back. */
  after(delayMs: number, run: () => unknown): () => void;
  /** Lets the next event happen, and waits for what it returns. False when there is none. */
  step(): Promise<boolean>;
}

interface TimelineEvent {
  readonly atMs: number;
  readonly order: number;
  run: (() => unknown) | null;
}

export const firstMs = Date.UTC(2030, 0, 1);

export function openTimeline(): Timeline {
  const heap: TimelineEvent[] = [];
  let nowMs = firstMs;
  let order = 0;
  let eventCount = 0;
  return {
    get nowMs() {
      return nowMs;
    },
    get eventCount() {
      return eventCount;
    },
    after(delayMs, run) {
      // Whole microseconds: what PostgreSQL keeps.
      const atMs = Math.ceil((nowMs + Math.max(0, delayMs)) * 1_000) / 1_000;
      order += 1;
      const event: TimelineEvent = { atMs, order, run };
      push(heap, event);
      return () => {
        event.run = null;
      };
    },
    async step() {
      for (let event = pop(heap); event !== undefined; event = pop(heap)) {
        const { run } = event;
        if (run === null) continue;
        nowMs = event.atMs;
        eventCount += 1;
        await run();
        await settled();
        return true;
      }
      return false;
    },
  };
}

/** Resolves when everything that follows from an event without further waiting has happened. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
}

function isBefore(one: TimelineEvent, other: TimelineEvent): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}

function push(heap: TimelineEvent[], event: TimelineEvent): void {
  let index = heap.length;
  while (index > 0) {
    const up = (index - 1) >> 1;
    const above = heap[up];
    if (above === undefined || isBefore(above, event)) break;
    heap[index] = above;
    index = up;
  }
  heap[index] = event;
}

function pop(heap: TimelineEvent[]): TimelineEvent | undefined {
  const [first] = heap;
  const last = heap.pop();
  if (first === undefined || last === undefined || heap.length === 0) return first;
  let index = 0;
  for (;;) {
    let down = 2 * index + 1;
    let below = heap[down];
    const right = heap[down + 1];
    if (below !== undefined && right !== undefined && isBefore(right, below)) {
      below = right;
      down += 1;
    }
    if (below === undefined || isBefore(last, below)) break;
    heap[index] = below;
    index = down;
  }
  heap[index] = last;
  return first;
}
