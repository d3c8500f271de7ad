import { setTimeout as delay } from 'node:timers/promises';

interface WarmPoolOptions<Kind, Item> {
  /** Most items kept ready, of all kinds together; 0 keeps none. */
  readonly max: number;
  /** Of each kind at least so many are kept ready, whether they were asked for lately or not. */
  readonly least: number;
  /** Kinds that are kept from the start; others are as soon as they are asked for. */
  readonly kinds: readonly Kind[];
  /** Kinds of the same name are the same. */
  readonly nameOf: (kind: Kind) => string;
  readonly start: (kind: Kind) => Promise<Item>;
  readonly remove: (item: Item) => Promise<void>;
  readonly isAlive: (item: Item) => Promise<boolean>;
  /** Resolves when an item that is ready ends by itself. */
  readonly ended: (item: Item) => Promise<unknown>;
}

/** What was started ahead of need, as much of each kind as was lately asked for at a time. */
export interface WarmPool<Kind, Item> {
  /** One that is ready; null when none is. */
  take(kind: Kind): Promise<Item | null>;
  /** Resolves with how many are ready when these are as many as wanted, or no more can be started now. */
  filled(): Promise<number>;
  /** Removes what is ready. */
  close(): Promise<void>;
}

interface Shelf<Kind, Item> {
  readonly kind: Kind;
  readonly ready: Item[];
  /** When items were asked for within the last second. */
  readonly askedAtMs: number[];
  /** Most that were asked for within one second, lately. */
  peak: number;
  peakAtMs: number;
}

interface PoolState<Kind, Item> {
  readonly options: WarmPoolOptions<Kind, Item>;
  readonly shelves: Map<string, Shelf<Kind, Item>>;
  lastTakeMs: number;
  /** One that was ready ended by itself: before the next is asked for, no more are started. */
  hasFailed: boolean;
  /** The present look whether vessels are missing or too many, which ends when there is nothing more to do. */
  refill: Promise<void> | null;
  /** Wakes the pool when demand has fallen. */
  timer: NodeJS.Timeout | null;
  isClosed: boolean;
}

const burstMs = 1_000;
/** So long a burst is expected to come again. */
const memoryMs = 300_000;
/** A capsule that was just created has the processors to itself for a moment. */
const quietMs = 20;

export function createWarmPool<Kind, Item>(options: WarmPoolOptions<Kind, Item>): WarmPool<Kind, Item> {
  const state: PoolState<Kind, Item> = {
    options,
    shelves: new Map(),
    lastTakeMs: Number.NEGATIVE_INFINITY,
    hasFailed: false,
    refill: null,
    timer: null,
    isClosed: options.max === 0,
  };
  for (const kind of options.kinds) shelfOf(state, kind);
  startRefill(state);
  return {
    async take(kind) {
      const shelf = shelfOf(state, kind);
      const item = shelf.ready.shift() ?? null;
      noteDemand(state, shelf);
      startRefill(state);
      if (item === null || (await options.isAlive(item))) return item;
      await options.remove(item).catch(() => {});
      return null;
    },
    async filled() {
      await state.refill;
      return countReady(state);
    },
    async close() {
      state.isClosed = true;
      if (state.timer) clearTimeout(state.timer);
      await state.refill;
      const left = [...state.shelves.values()].flatMap(({ ready }) => ready.splice(0));
      await Promise.all(left.map((item) => options.remove(item)));
    },
  };
}

function shelfOf<Kind, Item>({ options, shelves }: PoolState<Kind, Item>, kind: Kind): Shelf<Kind, Item> {
  const name = options.nameOf(kind);
  const shelf = shelves.get(name) ?? { kind, ready: [], askedAtMs: [], peak: 0, peakAtMs: 0 };
  shelves.set(name, shelf);
  return shelf;
}

function noteDemand<Kind, Item>(state: PoolState<Kind, Item>, shelf: Shelf<Kind, Item>): void {
  const nowMs = performance.now();
  state.lastTakeMs = nowMs;
  state.hasFailed = false;
  shelf.askedAtMs.push(nowMs);
  while ((shelf.askedAtMs[0] ?? nowMs) < nowMs - burstMs) shelf.askedAtMs.shift();
  if (shelf.askedAtMs.length < shelf.peak && nowMs - shelf.peakAtMs < memoryMs) return;
  shelf.peak = shelf.askedAtMs.length;
  shelf.peakAtMs = nowMs;
}

function countReady<Kind, Item>({ shelves }: PoolState<Kind, Item>): number {
  return [...shelves.values()].reduce((sum, { ready }) => sum + ready.length, 0);
}

/** How many more of a kind are wanted; negative when there are too many. */
function missing<Kind, Item>({ options }: PoolState<Kind, Item>, shelf: Shelf<Kind, Item>): number {
  const isRecent = performance.now() - shelf.peakAtMs < memoryMs;
  return Math.min(options.max, Math.max(options.least, isRecent ? shelf.peak : 0)) - shelf.ready.length;
}

function startRefill<Kind, Item>(state: PoolState<Kind, Item>): void {
  if (state.isClosed) return;
  state.refill ??= refill(state).finally(() => {
    state.refill = null;
    if (state.timer) clearTimeout(state.timer);
    state.timer = setTimeout(() => startRefill(state), memoryMs).unref();
  });
}

async function refill<Kind, Item>(state: PoolState<Kind, Item>): Promise<void> {
  const { options } = state;
  while (!state.isClosed && !state.hasFailed) {
    await untilQuiet(state);
    const shelves = [...state.shelves.values()].toSorted((a, b) => a.ready.length - b.ready.length);
    const short = shelves.find((each) => missing(state, each) > 0);
    const crowded = shelves.find((each) => missing(state, each) < 0);
    // What cannot be removed now is removed by the next driver.
    if (crowded) await Promise.allSettled(crowded.ready.splice(missing(state, crowded)).map(options.remove));
    else if (short && countReady(state) < options.max && !state.isClosed) {
      // Nobody waits for it: whoever needs an item tries again and hears of it.
      const item = await options.start(short.kind).catch(() => null);
      if (item === null) return;
      keep(state, short, item);
    } else return;
  }
}

async function untilQuiet<Kind, Item>(state: PoolState<Kind, Item>): Promise<void> {
  const endsAtMs = performance.now() + 4 * quietMs;
  for (;;) {
    const quietAtMs = Math.min(state.lastTakeMs + quietMs, endsAtMs);
    const waitMs = quietAtMs - performance.now();
    if (waitMs <= 0 || state.isClosed) return;
    await delay(waitMs);
  }
}

function keep<Kind, Item>(state: PoolState<Kind, Item>, shelf: Shelf<Kind, Item>, item: Item): void {
  shelf.ready.push(item);
  void state.options.ended(item).then(async () => {
    const at = shelf.ready.indexOf(item);
    if (at < 0) return;
    shelf.ready.splice(at, 1);
    state.hasFailed = true;
    await state.options.remove(item).catch(() => {});
  });
}
