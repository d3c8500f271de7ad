import { totalmem } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from './container-process.ts';
import type { Vessel } from './container-vessel.ts';
import type { MachineSpec } from './machine-driver.ts';

type Egress = MachineSpec['egress'];

export interface BlankPoolOptions {
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

interface Kind {
  readonly egress: Egress;
  readonly ready: Vessel[];
  /** When vessels were asked for within the last second. */
  readonly askedAtMs: number[];
  /** Most that were asked for within one second, lately. */
  peak: number;
  peakAtMs: number;
}

interface PoolState {
  readonly options: BlankPoolOptions;
  readonly kinds: readonly Kind[];
  lastTakeMs: number;
  /** One that was ready ended by itself: before the next is asked for, no more are started. */
  hasFailed: boolean;
  /** The present look whether vessels are missing or too many, which ends when there is nothing more to do. */
  refill: Promise<void> | null;
  /** Wakes the pool when demand has fallen. */
  timer: NodeJS.Timeout | null;
  isClosed: boolean;
}

const leastReady = 2;
const burstMs = 1_000;
/** So long a burst is expected to come again. */
const memoryMs = 300_000;
/** A capsule that was just created has the processors to itself for a moment. */
const quietMs = 20;
const sizeBytes = 2 ** 21;
/** One part in so many of the machine's memory may be in vessels that are only kept ready. */
const memoryShare = 64;

/** Most vessels to keep ready on this machine. */
export function mostBlanks(): number {
  return Math.min(128, Math.floor(totalmem() / memoryShare / sizeBytes));
}

export function createBlankPool(options: BlankPoolOptions): BlankPool {
  const kind = (egress: Egress): Kind => ({ egress, ready: [], askedAtMs: [], peak: 0, peakAtMs: 0 });
  const state: PoolState = {
    options,
    kinds: [kind('none'), kind('internet')],
    lastTakeMs: Number.NEGATIVE_INFINITY,
    hasFailed: false,
    refill: null,
    timer: null,
    isClosed: options.max === 0,
  };
  startRefill(state);
  return {
    async take(egress) {
      const vessel = state.kinds.find((each) => each.egress === egress)?.ready.shift() ?? null;
      noteDemand(state, egress);
      startRefill(state);
      if (vessel === null) return options.start(egress);
      if (await isAlive(vessel.init)) return vessel;
      await options.remove(vessel).catch(() => {});
      return options.start(egress);
    },
    async filled() {
      await state.refill;
      return countReady(state);
    },
    async close() {
      state.isClosed = true;
      if (state.timer) clearTimeout(state.timer);
      await state.refill;
      const left = state.kinds.flatMap(({ ready }) => ready.splice(0));
      await Promise.all(left.map((vessel) => options.remove(vessel)));
    },
  };
}

function noteDemand(state: PoolState, egress: Egress): void {
  const nowMs = performance.now();
  state.lastTakeMs = nowMs;
  state.hasFailed = false;
  const kind = state.kinds.find((each) => each.egress === egress);
  if (kind === undefined) return;
  kind.askedAtMs.push(nowMs);
  while ((kind.askedAtMs[0] ?? nowMs) < nowMs - burstMs) kind.askedAtMs.shift();
  if (kind.askedAtMs.length < kind.peak && nowMs - kind.peakAtMs < memoryMs) return;
  kind.peak = kind.askedAtMs.length;
  kind.peakAtMs = nowMs;
}

function countReady({ kinds }: PoolState): number {
  return kinds.reduce((sum, { ready }) => sum + ready.length, 0);
}

/** How many more of a kind are wanted; negative when there are too many. */
function missing({ options }: PoolState, kind: Kind): number {
  const isRecent = performance.now() - kind.peakAtMs < memoryMs;
  return Math.min(options.max, Math.max(leastReady, isRecent ? kind.peak : 0)) - kind.ready.length;
}

function startRefill(state: PoolState): void {
  if (state.isClosed) return;
  state.refill ??= refill(state).finally(() => {
    state.refill = null;
    if (state.timer) clearTimeout(state.timer);
    state.timer = setTimeout(() => startRefill(state), memoryMs).unref();
  });
}

async function refill(state: PoolState): Promise<void> {
  const { options, kinds } = state;
  while (!state.isClosed && !state.hasFailed) {
    await untilQuiet(state);
    const kind = kinds.toSorted((a, b) => a.ready.length - b.ready.length).find((each) => missing(state, each) > 0);
    const crowded = kinds.find((each) => missing(state, each) < 0);
    // What cannot be removed now is removed by the next driver.
    if (crowded) await Promise.allSettled(crowded.ready.splice(missing(state, crowded)).map(options.remove));
    else if (kind && countReady(state) < options.max && !state.isClosed) {
      // Nobody waits for it: whoever needs a vessel tries again and hears of it.
      const vessel = await options.start(kind.egress).catch(() => null);
      if (vessel === null) return;
      keep(state, kind, vessel);
    } else return;
  }
}

async function untilQuiet(state: PoolState): Promise<void> {
  const endsAtMs = performance.now() + 4 * quietMs;
  for (;;) {
    const quietAtMs = Math.min(state.lastTakeMs + quietMs, endsAtMs);
    const waitMs = quietAtMs - performance.now();
    if (waitMs <= 0 || state.isClosed) return;
    await delay(waitMs);
  }
}

function keep(state: PoolState, kind: Kind, vessel: Vessel): void {
  kind.ready.push(vessel);
  void vessel.guest.closed.then(async () => {
    const at = kind.ready.indexOf(vessel);
    if (at < 0) return;
    kind.ready.splice(at, 1);
    state.hasFailed = true;
    await state.options.remove(vessel).catch(() => {});
  });
}
