import { AppError } from '@caisson/contracts/app-error';
import { protocolError } from './guest-answers.ts';
import { guestLimits } from './guest-frames.ts';

/** Credit a stream begins with, in units: one per byte, `frameCost` more per frame. */
export const windowUnits = 262_144;

/** What the agent sent and the consumer has not taken yet, never more than the credit given. */
interface CreditedQueue<Item> {
  /** Takes an item from the agent; `guest_protocol` when there was no credit for it. */
  push(item: Item, sizeBytes: number): void;
  /** No more items: the consumer's loop ends, or fails with `error`, after those that wait. */
  end(error?: AppError): void;
  /** Gives the items in order, each once. One consumer at a time. */
  items(): AsyncGenerator<Item, void, undefined>;
}

/** `returnCredit` tells the agent, in batches, how many units the consumer has freed. */
export function createCreditedQueue<Item>(returnCredit: (units: number) => void): CreditedQueue<Item> {
  const waiting: { item: Item; cost: number }[] = [];
  let creditLeft = windowUnits;
  let creditDue = 0;
  let ended: { error: AppError | undefined } | null = null;
  let wake: (() => void) | null = null;
  let consumed = false;

  const free = (cost: number): void => {
    creditDue += cost;
    if (ended !== null || creditDue < windowUnits / 4) return;
    creditLeft += creditDue;
    returnCredit(creditDue);
    creditDue = 0;
  };
  const rouse = (): void => {
    wake?.();
    wake = null;
  };

  return {
    push(item, sizeBytes) {
      const cost = sizeBytes + guestLimits.frameCost;
      if (cost > creditLeft || ended !== null) throw protocolError('it sends more than it has credit for');
      creditLeft -= cost;
      waiting.push({ item, cost });
      rouse();
    },
    end(error) {
      ended ??= { error };
      rouse();
    },
    async *items() {
      if (consumed) throw new AppError('invalid_argument', 'This stream is being read already.');
      consumed = true;
      try {
        for (;;) {
          const next = waiting.shift();
          if (next !== undefined) {
            free(next.cost);
            yield next.item;
          } else if (ended !== null) {
            if (ended.error !== undefined) throw ended.error;
            return;
          } else {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        }
      } finally {
        consumed = false;
      }
    },
  };
}
