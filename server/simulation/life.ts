import type { Life, World } from './world.ts';

/** What time is counted in. */
const smallestMs = 0.001;

/** A process that begins now. */
export function beginLife(world: World, name: string): Life {
  const { timeline } = world;
  let isAlive = true;
  let frozenUntilMs = 0;
  const happen = (run: () => unknown): unknown => {
    if (!isAlive) return undefined;
    const waitMs = frozenUntilMs - timeline.nowMs;
    if (waitMs <= smallestMs) return run();
    timeline.after(waitMs, () => happen(run));
    return undefined;
  };
  const life: Life = {
    name,
    doom: [],
    unsent: { notices: [], effects: [] },
    listeners: new Map(),
    performer: null,
    engine: null,
    get isAlive() {
      return isAlive;
    },
    end() {
      isAlive = false;
      world.lives.delete(life);
    },
    after: (delayMs, run) => timeline.after(delayMs, () => happen(run)),
    freeze(forMs) {
      frozenUntilMs = Math.max(frozenUntilMs, timeline.nowMs + forMs);
    },
  };
  world.lives.add(life);
  return life;
}
