import type {
  AssignedJob,
  CancelingJob,
  Job,
  JobEffect,
  JobError,
  JobEvent,
  RunningJob,
  RunOutcome,
  TimingOutJob,
} from './job.ts';
import type { Step } from './step.ts';

/** One more than the retries: a run lost for the infrastructure's reasons is tried three times in all. */
export const defaultMaxAttempts = 3;

/** A host that was asked to end a run and still holds its lease this much later is not waited for any longer. */
export const stopTimeoutMs = 60_000;

/** Failures that say nothing about the command, so another host or another moment may do better. */
const retryableCodes: ReadonlySet<string> = new Set(['sandbox_lost', 'provision_failed', 'snapshot_failed']);

type JobStep = Step<Job, JobEffect>;
type ActiveJob = AssignedJob | RunningJob;
type StoppingJob = CancelingJob | TimingOutJob;

const illegal: JobStep = { ok: false, code: 'illegal_transition' };

/**
 * What a job does next. Total: what does not fit the state is a refusal that changes nothing, which makes concurrent writers and
 * repeated messages safe.
 *
 * Execution is at least once: a lost run is repeated even when its command had begun, because whether it ended is unknown. Its
 * capsule's disk is thrown away, effects outside of it may happen twice. A cancel wins over whatever the host reports later.
 */
export function stepJob(job: Job, event: JobEvent, nowMs: number): JobStep {
  if (event.kind !== 'assigned' && 'leaseId' in event) {
    if (!('leaseId' in job)) return illegal;
    if (job.leaseId !== event.leaseId) return { ok: false, code: 'stale_lease' };
  }
  switch (job.status) {
    case 'pending':
      return stepPending(job, event, nowMs);
    case 'scheduled':
      return stepScheduled(job, event, nowMs);
    case 'assigned':
    case 'running':
      return stepActive(job, event, nowMs);
    case 'canceling':
    case 'timing_out':
      return stepStopping(job, event, nowMs);
    case 'passed':
    case 'failed':
    case 'skipped':
    case 'canceled':
    case 'timed_out':
      return illegal;
  }
}

function stepPending(job: Extract<Job, { status: 'pending' }>, event: JobEvent, nowMs: number): JobStep {
  if (event.kind === 'ready')
    return to({ ...attemptsOf(job), status: 'scheduled', scheduledAtMs: nowMs }, { kind: 'place_job' });
  return stepWaiting(job, event, nowMs);
}

function stepScheduled(job: Extract<Job, { status: 'scheduled' }>, event: JobEvent, nowMs: number): JobStep {
  const { scheduledAtMs } = job;
  switch (event.kind) {
    case 'assigned': {
      const attempts = { attempt: job.attempt + 1, maxAttempts: job.maxAttempts };
      const { leaseId } = event;
      return to(
        { ...attempts, status: 'assigned', leaseId, scheduledAtMs },
        { kind: 'run_job', leaseId },
        { kind: 'advance_build' },
      );
    }
    case 'cache_hit':
      return to({ ...finished(job, nowMs), status: 'passed', exitCode: null }, { kind: 'advance_build' });
    case 'unplaceable':
      return to(
        { ...finished(job, nowMs), status: 'failed', exitCode: null, error: event.error },
        { kind: 'advance_build' },
      );
    default:
      return stepWaiting(job, event, nowMs);
  }
}

/** Before a host has it, a job ends the moment somebody asks. */
function stepWaiting(job: Extract<Job, { status: 'pending' | 'scheduled' }>, event: JobEvent, nowMs: number): JobStep {
  const done = finished(job, nowMs);
  switch (event.kind) {
    case 'skip':
      return to({ ...done, status: 'skipped' }, { kind: 'advance_build' });
    case 'cancel':
      return to({ ...done, status: 'canceled' }, { kind: 'advance_build' });
    case 'build_timeout':
      return to({ ...done, status: 'timed_out', error: buildTimeout }, { kind: 'advance_build' });
    default:
      return illegal;
  }
}

function stepActive(job: ActiveJob, event: JobEvent, nowMs: number): JobStep {
  switch (event.kind) {
    case 'started':
      return job.status === 'assigned' ? start(job, clamp(event.atMs, job.scheduledAtMs, nowMs)) : illegal;
    case 'finished':
      return finish(job, event.result, clamp(event.atMs, startedAtOf(job) ?? job.scheduledAtMs, nowMs));
    case 'lost':
      return lose(job, hostLost, nowMs);
    case 'refused':
      return job.status === 'assigned' ? giveBack(job) : illegal;
    case 'start_expired':
      return job.status === 'assigned' ? lose(job, startTimeout, nowMs) : illegal;
    case 'timeout_expired':
      return job.status === 'running' ? stop(job, { status: 'timing_out', error: stepTimeout }) : illegal;
    case 'build_timeout':
      return stop(job, { status: 'timing_out', error: buildTimeout });
    case 'cancel':
      return stop(job, { status: 'canceling' });
    default:
      return illegal;
  }
}

/** The end was decided before; the host's report, its loss or its silence only says when. */
function stepStopping(job: StoppingJob, event: JobEvent, nowMs: number): JobStep {
  switch (event.kind) {
    case 'finished':
      return endStopping(job, clamp(event.atMs, job.startedAtMs ?? job.scheduledAtMs, nowMs), false);
    case 'lost':
    case 'stop_expired':
      return endStopping(job, nowMs, true);
    default:
      return illegal;
  }
}

function start(job: AssignedJob, startedAtMs: number): JobStep {
  return to({ ...job, status: 'running', startedAtMs }, { kind: 'advance_build' });
}

function stop(job: ActiveJob, ending: { status: 'canceling' } | { status: 'timing_out'; error: JobError }): JobStep {
  const { leaseId, scheduledAtMs } = job;
  const reason = ending.status === 'canceling' ? 'canceled' : 'timed_out';
  return to(
    { ...attemptsOf(job), leaseId, scheduledAtMs, startedAtMs: startedAtOf(job), ...ending },
    { kind: 'cancel_run', leaseId, reason },
    { kind: 'start_stop_timer', leaseId, afterMs: stopTimeoutMs },
    { kind: 'advance_build' },
  );
}

function endStopping(job: StoppingJob, finishedAtMs: number, isLost: boolean): JobStep {
  const done = finished(job, finishedAtMs);
  const state: Job =
    job.status === 'canceling' ? { ...done, status: 'canceled' } : { ...done, status: 'timed_out', error: job.error };
  return to(state, ...leaving(job, isLost), { kind: 'advance_build' });
}

function finish(job: ActiveJob, result: RunOutcome, atMs: number): JobStep {
  const done = finished(job, atMs);
  const end = (state: Job): JobStep => to(state, ...leaving(job, false), { kind: 'advance_build' });
  switch (result.outcome) {
    case 'exited': {
      const { exitCode, signal } = result;
      if (exitCode === 0 && signal === null) return end({ ...done, status: 'passed', exitCode });
      return end({ ...done, status: 'failed', exitCode, error: signal === null ? null : signaled(signal) });
    }
    case 'timed_out':
      return end({ ...done, status: 'timed_out', error: stepTimeout });
    case 'canceled':
      return retryOrFail(job, hostGaveUp, { atMs, isLost: false });
    case 'failed': {
      const error = { code: result.code, message: result.message };
      if (retryableCodes.has(error.code)) return retryOrFail(job, error, { atMs, isLost: false });
      return end({ ...done, status: 'failed', exitCode: null, error });
    }
  }
}

/** Nothing was tried, so it costs no attempt. */
function giveBack(job: AssignedJob): JobStep {
  const { attempt, maxAttempts, scheduledAtMs } = job;
  const waiting: Job = { attempt: attempt - 1, maxAttempts, status: 'scheduled', scheduledAtMs };
  return to(waiting, ...leaving(job, true), { kind: 'place_job' }, { kind: 'advance_build' });
}

function lose(job: ActiveJob, error: JobError, nowMs: number): JobStep {
  return retryOrFail(job, error, { atMs: nowMs, isLost: true });
}

function retryOrFail(
  job: ActiveJob,
  error: JobError,
  end: { readonly atMs: number; readonly isLost: boolean },
): JobStep {
  const effects = leaving(job, end.isLost);
  if (job.attempt >= job.maxAttempts) {
    const done = finished(job, end.atMs);
    return to({ ...done, status: 'failed', exitCode: null, error }, ...effects, { kind: 'advance_build' });
  }
  const again: Job = { ...attemptsOf(job), status: 'scheduled', scheduledAtMs: job.scheduledAtMs };
  return to(again, ...effects, { kind: 'place_job' }, { kind: 'advance_build' });
}

/** A holder that was lost may still be running it and is told to stop as soon as it is heard of again. */
function leaving({ leaseId }: ActiveJob | StoppingJob, isLost: boolean): readonly JobEffect[] {
  const end: JobEffect = { kind: 'end_lease', leaseId, isLost };
  return isLost ? [{ kind: 'cancel_run', leaseId, reason: 'lost' }, end] : [end];
}

function to(state: Job, ...effects: readonly JobEffect[]): JobStep {
  return { ok: true, state, effects };
}

function attemptsOf({ attempt, maxAttempts }: Job): { attempt: number; maxAttempts: number } {
  return { attempt, maxAttempts };
}

function startedAtOf(job: Job): number | null {
  return 'startedAtMs' in job ? job.startedAtMs : null;
}

function finished(job: Exclude<Job, { finishedAtMs: number }>, finishedAtMs: number) {
  const scheduledAtMs = 'scheduledAtMs' in job ? job.scheduledAtMs : null;
  return { ...attemptsOf(job), scheduledAtMs, startedAtMs: startedAtOf(job), finishedAtMs };
}

/** A host's clock is its own; what it says counts only inside what is known here. */
function clamp(atMs: number, earliestMs: number, latestMs: number): number {
  if (!Number.isFinite(atMs)) return latestMs;
  return Math.max(earliestMs, Math.min(atMs, latestMs));
}

function signaled(signal: number): JobError {
  return { code: 'killed_by_signal', message: `The command was ended by signal ${signal}.` };
}

const hostLost: JobError = {
  code: 'sandbox_lost',
  message:
    'The host of this job stopped answering, and no attempt is left. Run the build again once its hosts are well.',
};
const hostGaveUp: JobError = {
  code: 'sandbox_lost',
  message: 'The host of this job gave it up, and no attempt is left. Run the build again once its hosts are well.',
};
const startTimeout: JobError = {
  code: 'provision_failed',
  message: 'The capsule was not ready in time, and no attempt is left. See the log of its host.',
};
const stepTimeout: JobError = {
  code: 'step_timeout',
  message: 'The command ran longer than the timeout of its step. Raise the timeout or make the step do less.',
};
const buildTimeout: JobError = {
  code: 'pipeline_timeout',
  message: 'The build ran longer than the timeout of its pipeline. Raise the timeout or make the pipeline do less.',
};
