import { type Build, type BuildEffect, type BuildError, type BuildEvent, type FinishedBuild, rollUp } from './build.ts';
import type { Step } from './step.ts';

type BuildStep = Step<Build, BuildEffect>;
type OpenBuild = Exclude<Build, FinishedBuild>;
type JobsChanged = Extract<BuildEvent, { kind: 'jobs_changed' }>;

const illegal: BuildStep = { ok: false, code: 'illegal_transition' };

/** What a build does next. Total; a finished build refuses everything, so a late cancel or timeout leaves it as it is. */
export function stepBuild(build: Build, event: BuildEvent, nowMs: number): BuildStep {
  if ('finishedAtMs' in build) return illegal;
  switch (event.kind) {
    case 'planned':
      return plan(build, event.timeoutMs, nowMs);
    case 'rejected':
      return reject(build, event.error, nowMs);
    case 'jobs_changed':
      return follow(build, event, nowMs);
    case 'cancel':
      if (build.status === 'canceling') return illegal;
      return to({ status: 'canceling', startedAtMs: startedAtOf(build) }, { kind: 'advance_build' });
    case 'build_timeout':
      return timeOut(build);
  }
}

function plan(build: OpenBuild, timeoutMs: number | null, nowMs: number): BuildStep {
  if (build.status !== 'scheduled' || build.isPlanned) return illegal;
  const timer: BuildEffect[] = timeoutMs === null ? [] : [{ kind: 'start_build_timer', atMs: nowMs + timeoutMs }];
  return to({ ...build, isPlanned: true }, { kind: 'advance_build' }, ...timer);
}

function reject(build: OpenBuild, error: BuildError, nowMs: number): BuildStep {
  if (build.status !== 'scheduled' || build.isPlanned) return illegal;
  return to({ status: 'failed', startedAtMs: null, finishedAtMs: nowMs, error }, { kind: 'build_finished' });
}

/** Only the jobs of a planned build speak for it; before that, all they can do is let a cancel come to its end. */
function follow(build: OpenBuild, event: JobsChanged, nowMs: number): BuildStep {
  if (build.status === 'scheduled' && !build.isPlanned) return to(build);
  const status = rollUp(event.states, build.status === 'canceling');
  const startedAtMs = startedAtOf(build) ?? event.startedAtMs;
  const error = 'error' in build ? build.error : null;
  switch (status) {
    case 'scheduled':
      // A lost run may leave nothing but waiting jobs; what has begun stays begun.
      return build.status === 'scheduled' ? to(build) : to({ status: 'running', startedAtMs, error });
    case 'running':
    case 'failing':
      return to({ status, startedAtMs, error });
    case 'canceling':
      return to({ status, startedAtMs });
    case 'failed':
      return to({ status, startedAtMs, finishedAtMs: nowMs, error }, { kind: 'build_finished' });
    case 'passed':
    case 'canceled':
      return to({ status, startedAtMs, finishedAtMs: nowMs, error: null }, { kind: 'build_finished' });
  }
}

function timeOut(build: OpenBuild): BuildStep {
  if (build.status === 'canceling' || build.error !== null) return illegal;
  if (build.status === 'scheduled' && !build.isPlanned) return illegal;
  return to({ ...build, error: buildTimeout }, { kind: 'advance_build' });
}

function startedAtOf(build: OpenBuild): number | null {
  return build.status === 'scheduled' ? null : build.startedAtMs;
}

function to(state: Build, ...effects: readonly BuildEffect[]): BuildStep {
  return { ok: true, state, effects };
}

const buildTimeout: BuildError = {
  code: 'pipeline_timeout',
  message: 'The build ran longer than the timeout of its pipeline. Raise the timeout or make the pipeline do less.',
};
