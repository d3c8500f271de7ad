import { setTimeout as delay } from 'node:timers/promises';
import { v7 as newId } from 'uuid';
import { type AdvisoryLock, withAdvisoryLock } from '../store/advisory-lock.ts';

/**
 * What the engine takes from the process and machine it runs in, and what would make two runs of it differ. The simulation
 * (`server/simulation`) has its own body, drawn from a seed.
 */
export interface Surroundings {
  /** A new id, greater than earlier ones of this process. */
  newId(): string;
  /** For durations only: every moment that is stored comes from the database's clock. */
  nowMs(): number;
  /** Resolves after `ms`, or at once when `signal` aborts. */
  pause(ms: number, signal?: AbortSignal): Promise<void>;
  /** See `withAdvisoryLock`. */
  withLock(lock: Omit<AdvisoryLock, 'connectionString'>, work: (held: AbortSignal) => Promise<void>): Promise<void>;
}

export function systemSurroundings(connectionString: string): Surroundings {
  return {
    newId,
    nowMs: () => performance.now(),
    pause: (ms, signal) => delay(ms, undefined, { signal }).catch(() => {}),
    withLock: (lock, work) => withAdvisoryLock({ connectionString, ...lock }, work),
  };
}
