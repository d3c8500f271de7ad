import type { RunMessage } from '@caisson/contracts/host-api';
import type { WatchedRun } from './host.ts';

const windowBytes = 256 * 1024;

/** Serves the messages of all runs to one watcher at a time, straight from the journals. */
interface RunWatcher {
  /** There may be new records. */
  wake(): void;
  /** From the first unacknowledged message of every run; an earlier watcher ends. */
  messages(signal: AbortSignal): AsyncIterable<RunMessage>;
  close(): void;
}

export function watchRuns(runs: ReadonlyMap<string, WatchedRun>): RunWatcher {
  let wakeUp = Promise.withResolvers<void>();
  let current = new AbortController();
  let isClosed = false;

  const wake = () => {
    wakeUp.resolve();
  };

  async function* messages(signal: AbortSignal): AsyncIterable<RunMessage> {
    current.abort();
    const own = new AbortController();
    current = own;
    for (const run of runs.values()) {
      run.position = run.acknowledgedPosition;
      run.unacknowledged = [];
    }
    const stopped = AbortSignal.any([signal, own.signal]);
    stopped.addEventListener('abort', wake, { once: true });
    wake();
    while (!stopped.aborted && !isClosed) {
      await wakeUp.promise;
      wakeUp = Promise.withResolvers<void>();
      for (const run of runs.values()) {
        if (stopped.aborted || isClosed) return;
        yield* newMessages(run);
        if (run.position < run.journal.size) wake();
      }
    }
  }

  return {
    wake,
    messages,
    close() {
      isClosed = true;
      current.abort();
      wake();
    },
  };
}

/** One window of a run's messages, so that one that floods leaves the others their turn. */
async function* newMessages(run: WatchedRun): AsyncIterable<RunMessage> {
  const { leaseId, fence } = run.journal.assignment;
  const { records, position } = await run.journal.read(run.position, windowBytes);
  run.position = position;
  for (const { seq, atMs, event } of records) yield { leaseId, fence, seq, atMs, ...event };
  const lastSeq = records.at(-1)?.seq;
  if (lastSeq !== undefined) run.unacknowledged.push({ lastSeq, position });
}
