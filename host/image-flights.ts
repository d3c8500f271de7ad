/** Work that several callers may ask for at once and that is done once. */
export interface Flights<T> {
  /**
   * Joins the work under way for `key`, or starts it. Everybody gets its progress. A caller whose signal aborts leaves at once;
   * the work itself is stopped when the last one left.
   */
  join(key: string, work: FlightWork<T>, caller: Passenger): Promise<T>;
}

type FlightWork<T> = (progress: (line: string) => void, signal: AbortSignal) => Promise<T>;

interface Passenger {
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

interface Flight<T> {
  readonly result: Promise<T>;
  readonly passengers: Set<Passenger>;
  readonly controller: AbortController;
}

export function createFlights<T>(): Flights<T> {
  const flights = new Map<string, Flight<T>>();
  return {
    join: async (key, work, caller) => {
      caller.signal.throwIfAborted();
      const flight = flights.get(key) ?? start(flights, key, work);
      flight.passengers.add(caller);
      const left = Promise.withResolvers<never>();
      const leave = () => left.reject(caller.signal.reason);
      caller.signal.addEventListener('abort', leave, { once: true });
      try {
        return await Promise.race([flight.result, left.promise]);
      } finally {
        caller.signal.removeEventListener('abort', leave);
        flight.passengers.delete(caller);
        if (flight.passengers.size === 0) abandon(flights, key, flight);
      }
    },
  };
}

function start<T>(flights: Map<string, Flight<T>>, key: string, work: FlightWork<T>): Flight<T> {
  const controller = new AbortController();
  const passengers = new Set<Passenger>();
  const tell = (line: string) => {
    for (const passenger of passengers) passenger.progress(line);
  };
  // Begins a turn later, when its first passenger is on board and hears the first line.
  const result = Promise.resolve().then(() => work(tell, controller.signal));
  result.catch(() => {});
  const flight = { result, passengers, controller };
  flights.set(key, flight);
  return flight;
}

function abandon<T>(flights: Map<string, Flight<T>>, key: string, flight: Flight<T>): void {
  if (flights.get(key) === flight) flights.delete(key);
  flight.controller.abort(new Error('nobody waits for it any more'));
}
