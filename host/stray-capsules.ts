import { messageOf } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';

export interface StrayOptions {
  /** Removes whatever a capsule has; may be called again after it failed. */
  readonly discard: (capsuleId: string) => Promise<void>;
  /** Gets a line about each that could not be removed. */
  readonly warn: (line: string) => void;
}

/** Capsules of no run that could not be removed. */
export interface StrayCapsules {
  /** Tries them once more, unless that is under way. Never rejects. */
  retry(): Promise<void>;
}

/** Removes capsules that belong to no run. One that cannot be removed must not keep the host from its work: it stays for `retry`. */
export async function removeStrays(capsuleIds: readonly string[], options: StrayOptions): Promise<StrayCapsules> {
  let left = capsuleIds;
  let attempt: Promise<void> | null = null;
  const removeAll = async () => {
    const failed: string[] = [];
    for (const capsuleId of left) {
      try {
        await options.discard(capsuleId);
        crashPoint('recover.discarded');
      } catch (error) {
        failed.push(capsuleId);
        options.warn(`warning: what is left of capsule ${capsuleId} could not be removed yet: ${messageOf(error)}`);
      }
    }
    left = failed;
  };
  const retry = () => {
    attempt ??= removeAll().finally(() => {
      attempt = null;
    });
    return attempt;
  };
  await retry();
  return { retry };
}
