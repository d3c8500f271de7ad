export const jobStates = [
  'pending',
  'scheduled',
  'assigned',
  'running',
  'passed',
  'failed',
  'skipped',
  'canceling',
  'canceled',
  'timing_out',
  'timed_out',
] as const;
export type JobState = (typeof jobStates)[number];

export const finishedJobStates = ['passed', 'failed', 'skipped', 'canceled', 'timed_out'] as const;

/** True for the states no job ever leaves. */
export function isFinishedJobState(state: JobState): state is (typeof finishedJobStates)[number] {
  return finishedJobStates.some((finished) => finished === state);
}

/** One step of a build; every member carries only what is true of it. Times are milliseconds since the epoch. */
export type Job =
  | PendingJob
  | ScheduledJob
  | AssignedJob
  | RunningJob
  | CancelingJob
  | TimingOutJob
  | PassedJob
  | FailedJob
  | SkippedJob
  | CanceledJob
  | TimedOutJob;

interface Attempts {
  /** How many leases this job was given so far. */
  readonly attempt: number;
  /** A run lost for a reason that is not the command's own is tried again until this many leases were used. */
  readonly maxAttempts: number;
}

/** Under a lease; `scheduledAtMs` is when the job first became ready, whatever the attempt. */
interface Held extends Attempts {
  readonly leaseId: string;
  readonly scheduledAtMs: number;
}

interface Finished extends Attempts {
  readonly scheduledAtMs: number | null;
  /** When the command of the last attempt began; null when none did. */
  readonly startedAtMs: number | null;
  readonly finishedAtMs: number;
}

/** Waits for its prerequisites. */
export interface PendingJob extends Attempts {
  readonly status: 'pending';
}
/** Waits for a host. */
export interface ScheduledJob extends Attempts {
  readonly status: 'scheduled';
  readonly scheduledAtMs: number;
}
/** A host has it and prepares the capsule. */
export interface AssignedJob extends Held {
  readonly status: 'assigned';
}
/** The command runs. */
export interface RunningJob extends Held {
  readonly status: 'running';
  readonly startedAtMs: number;
}
/** Somebody asked for its end; the host has not confirmed it. */
export interface CancelingJob extends Held {
  readonly status: 'canceling';
  readonly startedAtMs: number | null;
}
/** Its time or the build's is over; the host has not confirmed the end. */
export interface TimingOutJob extends Held {
  readonly status: 'timing_out';
  readonly startedAtMs: number | null;
  readonly error: JobError;
}
export interface PassedJob extends Finished {
  readonly status: 'passed';
  /** Null when a cached disk stood in for running the command. */
  readonly exitCode: number | null;
}
export interface FailedJob extends Finished {
  readonly status: 'failed';
  /** Null when the command did not end by itself. */
  readonly exitCode: number | null;
  /** Null when the exit code says it all. */
  readonly error: JobError | null;
}
/** Never to run, because of a prerequisite. */
export interface SkippedJob extends Finished {
  readonly status: 'skipped';
}
export interface CanceledJob extends Finished {
  readonly status: 'canceled';
}
export interface TimedOutJob extends Finished {
  readonly status: 'timed_out';
  readonly error: JobError;
}

export interface JobError {
  readonly code: string;
  /** Says what happened and, where there is something, what to do. */
  readonly message: string;
}

export type JobEvent =
  /** Every prerequisite passed. */
  | { readonly kind: 'ready' }
  /** A prerequisite will never pass, or the build stops at its first failure. */
  | { readonly kind: 'skip' }
  /** A host was chosen and the lease exists. */
  | { readonly kind: 'assigned'; readonly leaseId: string }
  /** No host will ever do, e.g. the one with the parent's disk is gone for good. */
  | { readonly kind: 'unplaceable'; readonly error: JobError }
  /** A disk with the job's cache key exists. */
  | { readonly kind: 'cache_hit' }
  /** The host began the command; `atMs` by the host's clock. */
  | { readonly kind: 'started'; readonly leaseId: string; readonly atMs: number }
  /** The host is done with the run; `atMs` by the host's clock. */
  | { readonly kind: 'finished'; readonly leaseId: string; readonly atMs: number; readonly result: RunOutcome }
  /** The lease expired or its host is gone. */
  | { readonly kind: 'lost'; readonly leaseId: string }
  /** The host has not taken the run and has no room for it. */
  | { readonly kind: 'refused'; readonly leaseId: string }
  /** The capsule was not ready in time. */
  | { readonly kind: 'start_expired'; readonly leaseId: string }
  /** The command's time is over and the host has not ended it by itself. */
  | { readonly kind: 'timeout_expired'; readonly leaseId: string }
  /** The host did not confirm in time the end it was asked for. */
  | { readonly kind: 'stop_expired'; readonly leaseId: string }
  | { readonly kind: 'cancel' }
  /** The whole build's time is over. */
  | { readonly kind: 'build_timeout' };

/** How a run ended; `RunResult` of the host contract is one. */
export type RunOutcome =
  | { readonly outcome: 'exited'; readonly exitCode: number; readonly signal: number | null }
  | { readonly outcome: 'timed_out' }
  | { readonly outcome: 'canceled' }
  | { readonly outcome: 'failed'; readonly code: string; readonly message: string };

export type JobEffect =
  /** Look for a host. */
  | { readonly kind: 'place_job' }
  /** Hand the assignment to the lease's host. */
  | { readonly kind: 'run_job'; readonly leaseId: string }
  /** Have the host end the run. */
  | { readonly kind: 'cancel_run'; readonly leaseId: string; readonly reason: 'canceled' | 'timed_out' | 'lost' }
  /** The lease's capacity is free again and nothing more is accepted under it. */
  | { readonly kind: 'end_lease'; readonly leaseId: string; readonly isLost: boolean }
  /** Deliver `stop_expired` after `afterMs`. */
  | { readonly kind: 'start_stop_timer'; readonly leaseId: string; readonly afterMs: number }
  /** The build's other jobs or its own state may change: run `advance` and `stepBuild`. */
  | { readonly kind: 'advance_build' };
