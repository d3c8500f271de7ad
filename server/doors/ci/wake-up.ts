/** Waiting that an event outside can cut short. */
interface WakeUp {
  /** Resolves at the next wake-up, at once when one came since the last wait, or after `timeoutMs`. */
  wait(timeoutMs: number): Promise<void>;
  close(): void;
}

/** `subscribe` hands over the callback and returns its unsubscribe; `signal` wakes as well. */
export function makeWakeUp(subscribe: (wake: () => void) => () => void, signal: AbortSignal): WakeUp {
  let isDue = false;
  let resume = () => {};
  const wake = () => {
    isDue = true;
    resume();
  };
  const unsubscribe = subscribe(wake);
  signal.addEventListener('abort', wake);
  return {
    async wait(timeoutMs) {
      if (!isDue && !signal.aborted) await firstOf(timeoutMs, (resolve) => (resume = resolve));
      isDue = false;
    },
    close() {
      unsubscribe();
      signal.removeEventListener('abort', wake);
    },
  };
}

async function firstOf(timeoutMs: number, listen: (resolve: () => void) => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
    listen(resolve);
  });
  clearTimeout(timer);
}
