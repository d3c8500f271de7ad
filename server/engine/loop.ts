import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';

/** Work done again and again: at once when woken, else every `everyMs`. */
export interface LoopSpec {
  readonly name: string;
  readonly everyMs: number;
  /** One round. A failure is logged and the next round comes after `everyMs`. */
  run(signal: AbortSignal): Promise<void>;
}

export interface Loop {
  /** Asks for a round now; several calls during a running round cause one more. */
  wake(): void;
  /** Lets the running round end (its signal is aborted) and stops. */
  stop(): Promise<void>;
}

/** Starts a loop; the first round begins at once. */
export function startLoop(spec: LoopSpec, logger: Logger): Loop {
  const stopping = new AbortController();
  let isWoken = false;
  let interrupt = new AbortController();

  async function keepRunning(): Promise<void> {
    while (!stopping.signal.aborted) {
      isWoken = false;
      try {
        await spec.run(stopping.signal);
      } catch (error) {
        if (!stopping.signal.aborted) logger.error({ error, loop: spec.name }, 'a loop failed');
        isWoken = false;
      }
      if (isWoken) continue;
      interrupt = new AbortController();
      await delay(spec.everyMs, undefined, { signal: AbortSignal.any([stopping.signal, interrupt.signal]) }).catch(
        () => {},
      );
    }
  }
  const running = keepRunning();

  return {
    wake() {
      isWoken = true;
      interrupt.abort();
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
