interface Flight<T> {
  readonly running: Promise<T>;
  next: Promise<T> | null;
}

/**
 * Answers callers who ask the same at the same time with one read: whoever comes while one runs shares the next, which begins when that
 * one has ended. So everybody gets what was there when they asked, or later. Nothing is kept beyond that.
 */
export function shareReads<T>(read: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const flights = new Map<string, Flight<T>>();

  function begin(key: string): Promise<T> {
    const running = read(key);
    const flight: Flight<T> = { running, next: null };
    flights.set(key, flight);
    const end = () => {
      if (flight.next === null) flights.delete(key);
    };
    running.then(end, end);
    return running;
  }

  return (key) => {
    const flight = flights.get(key);
    if (flight === undefined) return begin(key);
    const again = () => begin(key);
    flight.next ??= flight.running.then(again, again);
    return flight.next;
  };
}
