import { diskRoom } from './disk-room.ts';

interface DiskFloor {
  /** Any directory on the disk. */
  readonly directory: string;
  /** With less than this left the work ends. */
  readonly leastBytes: number;
  /** Why it ends then. */
  readonly error: () => Error;
  /** How often the disk is looked at; default 1000. */
  readonly everyMs?: number;
}

/**
 * Does something that would wait without end, or take what others need, on a full disk: when the disk falls below its floor, the signal
 * handed to `work` aborts with `error()`. `signal` ends it too.
 */
export async function aboveFloor<T>(
  { directory, leastBytes, error, everyMs = 1_000 }: DiskFloor,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const low = new AbortController();
  const look = async () => {
    const { freeBytes } = await diskRoom(directory);
    if (freeBytes < leastBytes) low.abort(error());
  };
  // One that fails is tried again at the next look.
  const timer = setInterval(() => void look().catch(() => {}), everyMs);
  try {
    return await work(AbortSignal.any([signal, low.signal]));
  } finally {
    clearInterval(timer);
  }
}
