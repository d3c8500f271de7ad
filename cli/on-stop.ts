/** Ctrl-C and SIGTERM, counted: a person who is not answered fast enough asks again. */
export interface Stops {
  readonly first: Promise<void>;
  readonly second: Promise<void>;
  /** Signals act on the process as usual again. */
  release(): void;
}

export function onStop(): Stops {
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  let count = 0;
  const stop = () => {
    count += 1;
    (count === 1 ? first : second).resolve();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return {
    first: first.promise,
    second: second.promise,
    release() {
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
    },
  };
}
