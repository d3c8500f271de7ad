/** Runs work when one of a number of places is free, in the order of the calls. */
export type Gate = <Result>(work: () => Promise<Result>) => Promise<Result>;

/** A gate with this many places. */
export function createGate(places: number): Gate {
  const waiting: (() => void)[] = [];
  let free = places;
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // Who waited has the place now.
      if (next) next();
      else free++;
    }
  };
}
