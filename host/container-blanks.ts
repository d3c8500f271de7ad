import { totalmem } from 'node:os';
import { isAlive } from './container-process.ts';
import type { Vessel } from './container-vessel.ts';
import type { MachineSpec } from './machine-driver.ts';
import { createWarmPool } from './warm-pool.ts';

type Egress = MachineSpec['egress'];

interface BlankPoolOptions {
  /** Most vessels kept ready, of both kinds together; 0 keeps none. */
  readonly max: number;
  readonly start: (egress: Egress) => Promise<Vessel>;
  readonly remove: (vessel: Vessel) => Promise<void>;
}

/** Vessels started ahead of need, since starting one takes several times what activating it does. */
export interface BlankPool {
  /** One that is ready, or a new one. */
  take(egress: Egress): Promise<Vessel>;
  /** Resolves with how many are ready when these are as many as wanted, or no more can be started now. */
  filled(): Promise<number>;
  /** Removes what is ready. */
  close(): Promise<void>;
}

const sizeBytes = 2 ** 21;
/** One part in so many of the machine's memory may be in vessels that are only kept ready. */
const memoryShare = 64;

/** Most vessels to keep ready on this machine. */
export function mostBlanks(): number {
  return Math.min(128, Math.floor(totalmem() / memoryShare / sizeBytes));
}

export function createBlankPool(options: BlankPoolOptions): BlankPool {
  const pool = createWarmPool<Egress, Vessel>({
    ...options,
    least: 2,
    kinds: ['none', 'internet'],
    nameOf: (egress) => egress,
    isAlive: ({ init }) => isAlive(init),
    ended: ({ guest }) => guest.closed,
  });
  return { ...pool, take: async (egress) => (await pool.take(egress)) ?? options.start(egress) };
}
