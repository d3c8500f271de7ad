import type { Logger } from 'pino';
import type { Surroundings } from './surroundings.ts';

/** Work done again and again: at once when woken, else every `everyMs`. */
export interface LoopSpec {
  readonly name: string;
  readonly everyMs: number;
  /** The pause after a round that failed; `everyMs` unless given. */
  readonly retryMs?: number;
  /** One round. A failure is logged, and waking does not make the next one come sooner. */
  run(signal: AbortSignal): Promise<void>;
}

export interface Loop {
  /** Asks for a round now; several calls during a running round cause one more. */
  wake(): void;
  /** Lets the running round end (its signal is aborted) and stops. */
  stop(): Promise<void>;
}

export interface LoopDeps extends Pick<Surroundings, 'pause'> {
  readonly logger: Logger;
}

/** Starts a loop; the first round begins at once. */
export function startLoop(spec: LoopSpec, { logger, pause }: LoopDeps): Loop {
  const stopping = new AbortController();
  let isWoken = false;
  let endPause = () => {};

  async function rest(ms: number): Promise<void> {
    const woken = new AbortController();
    endPause = () => woken.abort();
    await pause(ms, woken.signal);
    endPause = () => {};
  }

  async function keepRunning(): Promise<void> {
    while (!stopping.signal.aborted) {
      isWoken = false;
      let hasFailed = false;
      try {
        await spec.run(stopping.signal);
      } catch (error) {
        hasFailed = true;
        if (!stopping.signal.aborted) logger.error({ err: error, loop: spec.name }, 'a loop failed');
      }
      // A failing round is not repeated at once, however often it is woken meanwhile.
      if (stopping.signal.aborted || (isWoken && !hasFailed)) continue;
      await rest(hasFailed ? (spec.retryMs ?? spec.everyMs) : spec.everyMs);
    }
  }
  const running = keepRunning();

  return {
    wake() {
      isWoken = true;
      endPause();
    },
    async stop() {
      stopping.abort();
      endPause();
      await running;
    },
  };
}
