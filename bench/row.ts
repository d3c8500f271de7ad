import type { Goal, JudgedGoal } from './goal.ts';
import type { Samples, Summary } from './statistics.ts';

/** One line of the table of figures, with whatever it is compared to. */
export interface Row {
  /** As in `--only`. */
  readonly id: string;
  readonly title: string;
  /** What counts as reached; none for a row that only informs. */
  readonly goals: readonly Goal[];
  /** What the row cannot do without; null when it can run, else why it cannot. */
  readonly obstacle?: () => string | null;
  readonly measure: (bench: Bench) => Promise<Measured>;
}

/** What a row gets from the runner. */
export interface Bench {
  /** Fewer calls, for a look at whether everything works. */
  readonly isQuick: boolean;
  /** `full` calls, or a tenth of them (at least three) in a quick run. */
  count(full: number): number;
  /** Aborted by Ctrl-C; a row ends its loops and removes what it made. */
  readonly signal: AbortSignal;
  /** Shows a line for whoever watches. */
  say(line: string): void;
}

export interface Measured {
  readonly series: readonly Series[];
  /** What a reader has to know to judge the figures: rootfs, shapes, which clock. */
  readonly notes: readonly string[];
}

export interface Series {
  readonly name: string;
  /** `ours` is what the goal is about, `part` explains it, `baseline` is somebody else doing the same. */
  readonly role: 'ours' | 'part' | 'baseline';
  readonly unit: 'ms' | 'MiB' | 'MiB/s' | '/s';
  readonly samples: Samples;
}

/** A measured row as it is kept in `bench/results/`. */
export interface RowResult {
  readonly id: string;
  readonly title: string;
  readonly goals: readonly JudgedGoal[];
  readonly command: string;
  readonly measuredAt: string;
  readonly commit: string;
  readonly isQuick: boolean;
  readonly machine: Readonly<Record<string, string>>;
  /** Share of all processors that was busy with other work just before the row, 0 to 1. */
  readonly busyBefore: number;
  /** The same just after it. */
  readonly busyAfter: number;
  readonly tookS: number;
  readonly series: readonly SeriesResult[];
  readonly notes: readonly string[];
  /** Why there are no figures; null when there are. */
  readonly skipped: string | null;
  readonly error: string | null;
}

export interface SeriesResult {
  readonly name: string;
  readonly role: Series['role'];
  readonly unit: Series['unit'];
  readonly summary: Summary | null;
  readonly failures: number;
  readonly reasons: readonly string[];
}
