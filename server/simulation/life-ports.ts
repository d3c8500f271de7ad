import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { pino } from 'pino';
import type { Effect, Effects } from '../engine/effects.ts';
import { LayerRefused } from '../engine/host-dispatch.ts';
import type { Notifications } from '../engine/notifications.ts';
import type { Surroundings } from '../engine/surroundings.ts';
import type { Blobs } from '../store/blobs.ts';
import { hash32 } from './draws.ts';
import { type Life, SimulatedFault, type World } from './world.ts';

const noticeMs = 20;
const effectMs = 50;
const effectExpiresMs = 8_000;
const lockRetryMs = 1_000;
/** As late as it can be before those who look at leases take it for an outage. */
const latestShare = 1.8;

/** Notices between processes: they come soon, late or never, and only after their commit. */
export function notificationsOf(_world: World, life: Life): Notifications {
  return {
    on(topic, id, wake) {
      const key = `${topic}:${id}`;
      const wakes = life.listeners.get(key) ?? new Set();
      life.listeners.set(key, wakes.add(wake));
      return () => void wakes.delete(wake);
    },
    async tell(_tx, notices) {
      life.unsent.notices.push(...notices);
    },
    wake: (notices) => hear(life, [...notices]),
    close: async () => {},
  };
}

function hear(life: Life, notices: readonly string[]): void {
  for (const notice of notices) for (const wake of [...(life.listeners.get(notice) ?? [])]) wake();
}

export function notifyOthers(world: World, sender: Life, notices: readonly string[]): void {
  if (notices.length === 0 || world.weather.deaf > 0) return;
  for (const life of world.lives) {
    if (life === sender) continue;
    life.after(world.draws.unit(`${life.name} notice`) * noticeMs, () => hear(life, notices));
  }
}

/** A queue that performs what was committed at least once, by any process. */
export function effectsOf(_world: World, life: Life): Effects {
  return {
    async enqueue(_tx, effect) {
      life.unsent.effects.push(effect);
    },
    async perform(performer) {
      life.performer = performer;
    },
    stop: async () => {},
  };
}

/** Performs an effect that is committed, again and again until a performer has said that it is done. */
export function owe(world: World, effect: Effect): void {
  if (world.weather.effectsLost > 0) {
    world.history.say('queue', `loses ${effect.kind}`);
    return;
  }
  const { draws, timeline, owed } = world;
  owed.add(effect);
  const attempt = () => {
    if (!owed.has(effect)) return;
    timeline.after(effectExpiresMs, attempt);
    const [first, ...others] = world.lives;
    if (first === undefined) return;
    const life = draws.pick([first, ...others], 'performer');
    life.after(0, () => {
      world.history.say(life.name, `performs ${effect.kind}`);
      return void life.performer?.(effect).then(
        () => owed.delete(effect),
        (error: unknown) => reportError(world, life.name, error),
      );
    });
    if (draws.chance(0.1, 'effect twice'))
      life.after(draws.unit('effect again') * 3_000, () => void life.performer?.(effect).catch(() => {}));
  };
  timeline.after(draws.unit('effect') * effectMs, attempt);
}

/** A store that all control planes share and that never fails. */
export function blobsOf(content: Map<string, Uint8Array>): Blobs {
  return {
    async put(bytes) {
      const all = await buffer(bytes);
      const digest = createHash('sha256').update(all).digest('hex');
      content.set(digest, all);
      return { digest, sizeBytes: all.length };
    },
    has: async (digest) => content.has(digest),
    async *read(digest) {
      const bytes = content.get(digest);
      if (bytes === undefined) throw new Error(`no blob ${digest}`);
      yield bytes;
    },
    list: async () => [...content.keys()].map((digest) => ({ digest, storedAtMs: 0 })),
    async remove(digest) {
      content.delete(digest);
    },
  };
}

/** Time, ids and locks of one process. */
export function surroundingsOf(world: World, life: Life): Surroundings {
  const { draws, timeline, scenario } = world;
  let ids = 0;
  return {
    newId() {
      ids += 1;
      const random = (part: string) =>
        hash32(`${life.name} ${ids} ${part}`, scenario.seed).toString(16).padStart(8, '0');
      const time = Math.floor(timeline.nowMs).toString(16).padStart(12, '0');
      const [a, b, c] = [random('a'), random('b'), random('c')];
      return `${time.slice(0, 8)}-${time.slice(8)}-7${a.slice(0, 3)}-8${a.slice(3, 6)}-${b}${c.slice(0, 4)}`;
    },
    nowMs: () => timeline.nowMs,
    pause(ms, signal) {
      // A busy machine wakes nobody on time.
      const lateMs = ms * latestShare * draws.unit(`${life.name} pause`);
      return new Promise((resolve) => {
        if (signal?.aborted === true) return resolve();
        const takeBack = life.after(ms + lateMs, resolve);
        const wake = () => {
          takeBack();
          resolve();
        };
        signal?.addEventListener('abort', wake, { once: true });
      });
    },
    withLock: (lock, work) => withLock(world, life, { ...lock, work }),
  };
}

interface SoughtLock {
  readonly name: string;
  readonly signal: AbortSignal;
  onError(error: unknown): void;
  work(held: AbortSignal): Promise<void>;
}

async function withLock(world: World, life: Life, { name, signal, onError, work }: SoughtLock): Promise<void> {
  const { pause } = surroundingsOf(world, life);
  while (!signal.aborted) {
    if (!world.locks.has(name)) {
      const lost = new AbortController();
      const held = { life, lose: () => lost.abort() };
      world.locks.set(name, held);
      world.history.say(life.name, `holds ${name.slice(0, 9)}`);
      await work(AbortSignal.any([signal, lost.signal])).catch(onError);
      if (world.locks.get(name) === held) world.locks.delete(name);
    }
    await pause(lockRetryMs, signal);
  }
}

/** A logger that tells what the engine has to report; an error that no simulated fault explains is a bug. */
/** What the world does to a control plane; and what follows when a disk is to be brought from or to a host that is away. */
const expectedErrors = [SimulatedFault.name, LayerRefused.name];

export function loggerOf(world: World, life: Life) {
  const write = (line: string): void => {
    const { level, msg, err } = JSON.parse(line) as {
      level: number;
      msg: string;
      err?: { type: string; message: string; stack: string };
    };
    world.history.say(life.name, `logs: ${msg}${err === undefined ? '' : ` (${err.message})`}`);
    if (err !== undefined && level >= 40 && !expectedErrors.includes(err.type)) {
      world.fail('error', `${msg}: ${err.stack}`);
    }
  };
  return pino({ level: 'warn', base: null, timestamp: false }, { write });
}

export function reportError(world: World, who: string, error: unknown): void {
  if (error instanceof SimulatedFault) world.history.say(who, `fails: ${error.message}`);
  else world.fail('error', error instanceof Error ? String(error.stack) : String(error));
}
