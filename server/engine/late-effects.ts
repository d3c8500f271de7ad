import type { Logger } from 'pino';
import type { Effect, Effects } from './effects.ts';

const soonMs = 250;
const retryMs = 1_000;

export interface LateEffects extends Effects {
  /** Opens at once; rejects when that fails. */
  open(): Promise<void>;
}

/**
 * Effects that are opened when the first is enqueued, or by themselves a moment after the start: they take a fifth of a start's time, and
 * nothing is owed before the first rendering has ended.
 */
export function makeLateEffects(open: () => Promise<Effects>, logger: Logger): LateEffects {
  const performer = Promise.withResolvers<(effect: Effect) => Promise<void>>();
  let opening: Promise<Effects> | null = null;
  let timer = openIn(soonMs);

  function opened(): Promise<Effects> {
    opening ??= begin().catch((error) => {
      opening = null;
      throw error;
    });
    return opening;
  }

  async function begin(): Promise<Effects> {
    const effects = await open();
    const warn = (error: unknown) => logger.error({ err: error }, 'effects are not performed here');
    void performer.promise.then((perform) => effects.perform(perform)).catch(warn);
    return effects;
  }

  function openIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      opened().catch((error) => {
        logger.error({ err: error }, 'the effect queue cannot be opened; trying again');
        timer = openIn(retryMs);
      });
    }, ms);
  }

  return {
    async open() {
      await opened();
    },
    enqueue: async (tx, effect) => (await opened()).enqueue(tx, effect),
    async perform(perform) {
      performer.resolve(perform);
    },
    async stop() {
      clearTimeout(timer);
      const effects = await opening?.catch(() => null);
      clearTimeout(timer);
      await effects?.stop();
    },
  };
}
