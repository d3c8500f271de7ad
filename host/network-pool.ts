import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { Ipv4Network } from './network-address.ts';
import { makeSlots, maxSlots, type NetworkSlot, removeSlots, slotOf } from './network-slot.ts';
import type { RunBriefly } from './resident-programs.ts';

interface NetworkPoolOptions {
  readonly installationId: string;
  readonly block: Ipv4Network;
  /** Namespaces kept ready; 0 makes each one on demand. */
  readonly size: number;
  /** Slots of capsules that run already. */
  readonly taken: readonly number[];
  readonly run: RunBriefly;
}

/** Network namespaces made ahead of need, because making one takes longer than starting the capsule in it. */
export interface NetworkPool {
  /** A namespace nobody else uses; waits when none is ready. */
  acquire(): Promise<NetworkSlot>;
  /** Takes back the namespace of a dead capsule: later it serves again if it is clean, else it is removed. */
  release(slot: NetworkSlot, isClean: boolean): void;
  /** Removes a slot that is in an unknown state. */
  discard(number: number): Promise<void>;
  /** A slot that is known by its number, which belongs to its capsule until it is given back. */
  slot(number: number): NetworkSlot;
  /** Resolves when as many are ready as wanted and nothing is being given back. */
  filled(): Promise<void>;
  /** Removes what is ready or given back; acquired slots stay. */
  close(): Promise<void>;
}

interface PoolState {
  readonly options: NetworkPoolOptions;
  readonly ready: NetworkSlot[];
  /** Numbers that must not be handed out: ready, in use, being made or removed. */
  readonly busy: Set<number>;
  readonly waiters: PromiseWithResolvers<NetworkSlot>[];
  /** Slots being given back. */
  readonly returning: Set<Promise<void>>;
  /** Slots that could not be removed; `close` tries again. */
  readonly stuck: Set<NetworkSlot>;
  refill: Promise<void> | null;
  nextNumber: number;
  isClosed: boolean;
}

/** How many are made by one call of the program: more would let the first waiter wait for all. */
const batchSize = 4;

export function createNetworkPool(options: NetworkPoolOptions): NetworkPool {
  const busy = new Set(options.taken);
  const state: PoolState = {
    options,
    ready: [],
    busy,
    waiters: [],
    returning: new Set(),
    stuck: new Set(),
    refill: null,
    nextNumber: 0,
    isClosed: false,
  };
  startRefill(state);
  return {
    acquire() {
      const slot = state.ready.shift();
      if (slot) {
        // Not at once: making namespaces would slow down the very capsule this one is for, and others come back.
        if (state.ready.length < options.size / 2) startRefill(state);
        return Promise.resolve(slot);
      }
      const waiter = Promise.withResolvers<NetworkSlot>();
      state.waiters.push(waiter);
      startRefill(state);
      return waiter.promise;
    },
    release(slot, isClean) {
      const returning = giveBack(state, slot, isClean).finally(() => state.returning.delete(returning));
      state.returning.add(returning);
    },
    async discard(number) {
      await removeSlots([slotAt(state, number)], options.run);
      state.busy.delete(number);
    },
    slot(number) {
      busy.add(number);
      return slotAt(state, number);
    },
    filled: () => settle(state),
    async close() {
      state.isClosed = true;
      await settle(state);
      const slots = [...state.ready.splice(0), ...state.stuck];
      await removeSlots(slots, state.options.run);
      state.stuck.clear();
      for (const slot of slots) state.busy.delete(slot.number);
    },
  };
}

async function settle(state: PoolState): Promise<void> {
  while (state.refill || state.returning.size > 0) await Promise.all([state.refill, ...state.returning]);
}

async function giveBack(state: PoolState, slot: NetworkSlot, isClean: boolean): Promise<void> {
  // Its place was refilled when it was taken: without room for both no namespace would ever serve twice.
  const isWanted = !state.isClosed && state.ready.length < 2 * state.options.size;
  if (isWanted && isClean) return put(state, slot);
  try {
    await removeSlots([slot], state.options.run);
    crashPoint('slot.removed');
    state.busy.delete(slot.number);
  } catch {
    state.stuck.add(slot);
  }
  startRefill(state);
}

function put(state: PoolState, slot: NetworkSlot): void {
  const waiter = state.waiters.shift();
  if (waiter) waiter.resolve(slot);
  else state.ready.push(slot);
}

function startRefill(state: PoolState): void {
  state.refill ??= refill(state).finally(() => {
    state.refill = null;
    // Somebody may have come between the last look and this moment.
    if (state.waiters.length > 0) startRefill(state);
  });
}

async function refill(state: PoolState): Promise<void> {
  for (;;) {
    const wanted = state.waiters.length + (state.isClosed ? 0 : state.options.size - state.ready.length);
    if (wanted <= 0) return;
    const slots = reserve(state, Math.min(wanted, state.waiters.length > 0 ? 1 : batchSize));
    try {
      if (slots.length === 0) throw new AppError('limit_exceeded', `all ${maxSlots} network slots are in use`);
      await makeSlots(slots, state.options.run);
      crashPoint('slot.made');
    } catch (error) {
      await removeSlots(slots, state.options.run).catch(() => {});
      for (const slot of slots) state.busy.delete(slot.number);
      // Nobody waits for a background refill; the next capsule tries again and hears of it.
      for (const waiter of state.waiters.splice(0)) waiter.reject(error);
      return;
    }
    for (const slot of slots) put(state, slot);
  }
}

/** Numbers go round before they are used again, so that late packets for a dead capsule rarely meet its successor. */
function reserve(state: PoolState, count: number): readonly NetworkSlot[] {
  const slots: NetworkSlot[] = [];
  for (let tried = 0; tried < maxSlots && slots.length < count; tried++) {
    const number = state.nextNumber;
    state.nextNumber = (number + 1) % maxSlots;
    if (state.busy.has(number)) continue;
    state.busy.add(number);
    slots.push(slotAt(state, number));
  }
  return slots;
}

function slotAt({ options }: PoolState, number: number): NetworkSlot {
  return slotOf(options.installationId, options.block, number);
}
