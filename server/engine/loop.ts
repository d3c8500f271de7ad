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
  let endPause = () => {};

  function pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, spec.everyMs);
      endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
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
      await pause();
      endPause = () => {};
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
