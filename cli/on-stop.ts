import { once } from 'node:events';

/** Ctrl-C and SIGTERM, counted: a person who is not answered fast enough asks again. */
export interface Stops {
  readonly first: AbortSignal;
  readonly second: AbortSignal;
  /** Signals act on the process as usual again. */
  release(): void;
}

export function onStop(): Stops {
  const [first, second] = [new AbortController(), new AbortController()];
  const stop = () => (first.signal.aborted ? second : first).abort();
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return {
    first: first.signal,
    second: second.signal,
    release() {
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
    },
  };
}

/** Resolves when the signal aborts, at once if it has. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
