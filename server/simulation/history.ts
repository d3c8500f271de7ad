import { createHash } from 'node:crypto';
import { firstMs, type Timeline } from './timeline.ts';

/** What happened, in order. */
export interface History {
  /** Something a reader wants to know. */
  say(who: string, what: string): void;
  /** Something that only has to be the same in every run of the seed. */
  mark(what: string): void;
  readonly lines: readonly string[];
  /** sha256 of everything said and marked so far. */
  hash(): string;
}

export function openHistory(timeline: Timeline): History {
  const lines: string[] = [];
  const hash = createHash('sha256');
  const mark = (what: string) => void hash.update(`${timeline.nowMs} ${what}\n`);
  return {
    lines,
    mark,
    say(who, what) {
      const line = `${((timeline.nowMs - firstMs) / 1_000).toFixed(3).padStart(9)}  ${who.padEnd(10)} ${what}`;
      lines.push(line);
      mark(line);
    },
    hash: () => hash.copy().digest('hex'),
  };
}
