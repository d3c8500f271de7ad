import { isFinishedJobState, type JobState } from './job.ts';

export const buildStates = ['scheduled', 'running', 'failing', 'passed', 'failed', 'canceling', 'canceled'] as const;
export type BuildState = (typeof buildStates)[number];

/** A build; every member carries only what is true of it. Times are milliseconds since the epoch. */
export type Build = ScheduledBuild | RunningBuild | CancelingBuild | FinishedBuild;

/** Nothing of it has a host yet. */
export interface ScheduledBuild {
  readonly status: 'scheduled';
  /** False while the graph is not known, e.g. while the pipeline is rendered. */
  readonly isPlanned: boolean;
  /** Set once the build's time is over. */
  readonly error: BuildError | null;
}
export interface RunningBuild {
  readonly status: 'running' | 'failing';
  /** When its first command began; null until one did. */
  readonly startedAtMs: number | null;
  /** Set once the build's time is over. */
  readonly error: BuildError | null;
}
export interface CancelingBuild {
  readonly status: 'canceling';
  readonly startedAtMs: number | null;
}
export interface FinishedBuild {
  readonly status: 'passed' | 'failed' | 'canceled';
  readonly startedAtMs: number | null;
  readonly finishedAtMs: number;
  readonly error: BuildError | null;
}

export interface BuildError {
  readonly code: string;
  readonly message: string;
}

export type BuildEvent =
  /** The graph is known and its jobs exist; the build's time begins. */
  | { readonly kind: 'planned'; readonly timeoutMs: number | null }
  /** The graph was refused or could not be had. */
  | { readonly kind: 'rejected'; readonly error: BuildError }
  /** States of all its jobs after some changed, and when the first of their commands began. */
  | { readonly kind: 'jobs_changed'; readonly states: readonly JobState[]; readonly startedAtMs: number | null }
  | { readonly kind: 'cancel' }
  /** The time of the whole build is over. */
  | { readonly kind: 'build_timeout' };

export type BuildEffect =
  /** Run `advance` and apply what it says. */
  | { readonly kind: 'advance_build' }
  /** Deliver `build_timeout` at `atMs`. */
  | { readonly kind: 'start_build_timer'; readonly atMs: number }
  /** The build is over: its sealed disks may go, and whoever watches is told. */
  | { readonly kind: 'build_finished' };

/**
 * The state of a build by those of its jobs. Skipped and canceled jobs do not make it fail. A build without jobs has not been
 * planned (a plan has at least one step): it is `scheduled`, or `canceled` when that was asked for.
 */
export function rollUp(states: readonly JobState[], cancelRequested: boolean): BuildState {
  const isOver = states.every(isFinishedJobState);
  const hasFailed = states.some((state) => state === 'failed' || state === 'timed_out');
  if (cancelRequested) return isOver ? 'canceled' : 'canceling';
  if (states.length === 0) return 'scheduled';
  if (isOver) return hasFailed ? 'failed' : 'passed';
  if (hasFailed) return 'failing';
  return states.some((state) => state !== 'pending' && state !== 'scheduled') ? 'running' : 'scheduled';
}
