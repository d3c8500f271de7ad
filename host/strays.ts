import { messageOf } from '@caisson/contracts/app-error';

interface StrayOptions {
  /** What they are, e.g. `capsule`. */
  readonly kind: string;
  /** Removes whatever there is of one; may be called again after it failed. */
  readonly remove: (id: string) => Promise<void>;
  /** Gets a line about each that could not be removed. */
  readonly warn: (line: string) => void;
}

/** What belongs to nobody and could not be removed. */
export interface Strays {
  add(id: string): void;
  /** Tries them once more, unless that is under way. Resolves with how many are left; never rejects. */
  retry(): Promise<number>;
}

/** Keeps what belongs to nobody until it is removed: where that fails, it must not keep others from their work. */
export function createStrays({ kind, remove, warn }: StrayOptions): Strays {
  const left = new Set<string>();
  let attempt: Promise<number> | null = null;
  const removeAll = async () => {
    for (const id of [...left]) {
      try {
        await remove(id);
        left.delete(id);
      } catch (error) {
        warn(`warning: what is left of ${kind} ${id} could not be removed yet: ${messageOf(error)}`);
      }
    }
    return left.size;
  };
  return {
    add(id) {
      left.add(id);
    },
    retry() {
      attempt ??= removeAll().finally(() => {
        attempt = null;
      });
      return attempt;
    },
  };
}
