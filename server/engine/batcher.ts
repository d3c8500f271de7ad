/** Does many small things as few large ones: what is added while `write` runs goes into the next call together. */
export interface Batcher<T> {
  /** Resolves when the call that held `item` has succeeded, rejects when it has failed. */
  add(item: T): Promise<void>;
}

export function makeBatcher<T>(write: (items: readonly T[]) => Promise<void>): Batcher<T> {
  let waiting: T[] = [];
  let next: Promise<void> | null = null;
  let running: Promise<void> = Promise.resolve();

  async function flush(after: Promise<void>): Promise<void> {
    await after.catch(() => {});
    const items = waiting;
    waiting = [];
    next = null;
    await write(items);
  }

  return {
    add(item) {
      waiting.push(item);
      if (next === null) {
        next = flush(running);
        running = next;
      }
      return next;
    },
  };
}
