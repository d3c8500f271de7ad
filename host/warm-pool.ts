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
  /**
   * Whether a kind serves only few: of those something is kept, but then before all others, from when they were asked for again, more
   * than a burst after the first time. Default: none does.
   */
  readonly isSpecial?: (kind: Kind) => boolean;
  /** Whether anybody can still ask for a kind; looked at now and then. Default: always. */
  readonly isPossible?: (kind: Kind) => Promise<boolean>;
}

/** What was started ahead of need, as much of each kind as was lately asked for at a time. */
export interface WarmPool<Kind, Item> {
  /** One that is ready; null when none is. */
  take(kind: Kind): Promise<Item | null>;
  /** Resolves with how many are ready, of one kind or of all, when these are as many as wanted, or no more can be started now. */
  filled(kind?: Kind): Promise<number>;
  /** Removes what is ready. */
  close(): Promise<void>;
}

interface Shelf<Kind, Item> {
  readonly kind: Kind;
  readonly ready: Item[];
  /** When items were asked for within the last second. */
  readonly askedAtMs: number[];
  /** Since when it has been asked for, without long pauses. */
  firstAskedAtMs: number;
  lastAskedAtMs: number;
  /** Most that were asked for within one second, lately. */
  peak: number;
  peakAtMs: number;
  /** One could not be started, or ended by itself while it was ready: before the next is asked for, no more are started. */
  hasFailed: boolean;
}

interface PoolState<Kind, Item> {
  readonly options: WarmPoolOptions<Kind, Item>;
  readonly shelves: Map<string, Shelf<Kind, Item>>;
  lastTakeMs: number;
  /** The present look whether items are missing or too many, which ends when there is nothing more to do. */
  refill: Promise<void> | null;
  /** Wakes the pool when demand has fallen. */
  timer: NodeJS.Timeout | null;
  isClosed: boolean;
}

const burstMs = 1_000;
/** So long a burst is expected to come again. */
const memoryMs = 300_000;
const lookEveryMs = 10_000;
/** A capsule that was just created has the processors to itself for its first command, unless others come all the time. */
const quietMs = 40;
const quietMsMax = 80;

export function createWarmPool<Kind, Item>(options: WarmPoolOptions<Kind, Item>): WarmPool<Kind, Item> {
  const state: PoolState<Kind, Item> = {
    options,
    shelves: new Map(),
    lastTakeMs: Number.NEGATIVE_INFINITY,
    refill: null,
    timer: null,
    isClosed: options.max === 0,
  };
  for (const kind of options.kinds) shelfOf(state, kind);
  startRefill(state);
  return {
    async take(kind) {
      if (state.isClosed) return null;
      const shelf = shelfOf(state, kind);
      const item = shelf.ready.shift() ?? null;
      noteDemand(state, shelf);
      startRefill(state);
      if (item === null || (await options.isAlive(item))) return item;
      await options.remove(item).catch(() => {});
      return null;
    },
    async filled(kind) {
      await state.refill;
      const shelves = [...state.shelves].filter(([name]) => kind === undefined || name === options.nameOf(kind));
      return shelves.reduce((sum, [, { ready }]) => sum + ready.length, 0);
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
  const never = Number.NEGATIVE_INFINITY;
  const shelf = shelves.get(name) ?? {
    ...{ kind, ready: [], askedAtMs: [], firstAskedAtMs: never, lastAskedAtMs: never },
    ...{ peak: 0, peakAtMs: never, hasFailed: false },
  };
  shelves.set(name, shelf);
  return shelf;
}

function noteDemand<Kind, Item>(state: PoolState<Kind, Item>, shelf: Shelf<Kind, Item>): void {
  const nowMs = performance.now();
  state.lastTakeMs = nowMs;
  if (nowMs - shelf.lastAskedAtMs > memoryMs) shelf.firstAskedAtMs = nowMs;
  shelf.lastAskedAtMs = nowMs;
  shelf.hasFailed = false;
  shelf.askedAtMs.push(nowMs);
  while ((shelf.askedAtMs[0] ?? nowMs) < nowMs - burstMs) shelf.askedAtMs.shift();
  if (shelf.askedAtMs.length < shelf.peak && nowMs - shelf.peakAtMs < memoryMs) return;
  shelf.peak = shelf.askedAtMs.length;
  shelf.peakAtMs = nowMs;
}

/** How many of a kind there should be, if there is room for them. */
function wanted<Kind, Item>({ options }: PoolState<Kind, Item>, shelf: Shelf<Kind, Item>): number {
  const isRecent = performance.now() - shelf.peakAtMs < memoryMs;
  const wasAskedAgain = shelf.lastAskedAtMs - shelf.firstAskedAtMs > burstMs;
  const isWorthIt = wasAskedAgain || !options.isSpecial?.(shelf.kind);
  const count = Math.max(options.least, isRecent && isWorthIt ? shelf.peak : 0);
  return shelf.hasFailed ? Math.min(count, shelf.ready.length) : count;
}

/** How many more of each kind are to be ready, less than none where there are too many: what was asked for last comes first. */
function missing<Kind, Item>(state: PoolState<Kind, Item>): readonly (readonly [Shelf<Kind, Item>, number])[] {
  const { isSpecial = () => false, max } = state.options;
  const rank = ({ kind }: Shelf<Kind, Item>) => (isSpecial(kind) ? 0 : 1);
  let room = max;
  return [...state.shelves.values()]
    .toSorted((a, b) => rank(a) - rank(b) || b.lastAskedAtMs - a.lastAskedAtMs)
    .map((shelf) => {
      const count = Math.min(room, wanted(state, shelf));
      room -= count;
      return [shelf, count - shelf.ready.length];
    });
}

function startRefill<Kind, Item>(state: PoolState<Kind, Item>): void {
  if (state.isClosed) return;
  state.refill ??= refill(state).finally(() => {
    state.refill = null;
    if (state.timer) clearTimeout(state.timer);
    state.timer = setTimeout(() => startRefill(state), lookEveryMs).unref();
  });
}

async function refill<Kind, Item>(state: PoolState<Kind, Item>): Promise<void> {
  const { options } = state;
  await forgetShelves(state);
  while (!state.isClosed) {
    await untilQuiet(state);
    const counts = missing(state);
    const [crowded, surplus] = counts.find(([, count]) => count < 0) ?? [];
    const [short] = counts.find(([, count]) => count > 0) ?? [];
    // What cannot be removed now is removed by the next driver.
    if (crowded) await Promise.allSettled(crowded.ready.splice(surplus ?? 0).map(options.remove));
    else if (short && !state.isClosed) {
      const item = await options.start(short.kind).catch(() => null);
      // Nobody waits for it: whoever needs an item tries again and hears of it.
      if (item === null) short.hasFailed = true;
      else keep(state, short, item);
    } else return;
  }
}

/** There may be no end of kinds, most of which nobody asks for again, or can. */
async function forgetShelves<Kind, Item>({ options, shelves }: PoolState<Kind, Item>): Promise<void> {
  for (const [name, shelf] of shelves) {
    const isOld = shelf.lastAskedAtMs < performance.now() - memoryMs && !options.kinds.includes(shelf.kind);
    if (!isOld && (shelf.ready.length === 0 || (await (options.isPossible?.(shelf.kind) ?? true)))) continue;
    shelves.delete(name);
    await Promise.allSettled(shelf.ready.splice(0).map(options.remove));
  }
}

async function untilQuiet<Kind, Item>(state: PoolState<Kind, Item>): Promise<void> {
  const endsAtMs = performance.now() + quietMsMax;
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
    shelf.hasFailed = true;
    await state.options.remove(item).catch(() => {});
  });
}
