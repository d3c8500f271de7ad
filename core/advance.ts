import { type BuildState, rollUp } from './build.ts';
import { isFinishedJobState, type JobState } from './job.ts';

export interface AdvanceJob {
  readonly id: string;
  readonly state: JobState;
  /** Ids of every prerequisite, both edge kinds. */
  readonly dependsOn: readonly string[];
}

export interface AdvanceOptions {
  /** Somebody asked for the end of the build. Goes before `timedOut`. */
  readonly cancelRequested?: boolean;
  /** The build's time is over. */
  readonly timedOut?: boolean;
  /** The first failure also skips what does not depend on it and has no host yet. */
  readonly stopOnFailure?: boolean;
}

/** Ids of the jobs to send an event: `skip`, `ready`, `cancel`, `build_timeout`; and the build's state once all of them took it. */
export interface Advance {
  readonly skip: readonly string[];
  readonly schedule: readonly string[];
  readonly cancel: readonly string[];
  readonly timeOut: readonly string[];
  readonly state: BuildState;
}

/**
 * What the jobs of one build do next, by their states alone: repeating it, or doing it after a crash in the middle, comes to the
 * same end. Linear in jobs and edges.
 *
 * A pending job is skipped as soon as a prerequisite will never pass (failed, timed out, skipped, canceled on its own, or unknown).
 * While the build is canceled or timed out nothing is skipped: every job that is not over gets that event instead.
 */
export function advance(jobs: readonly AdvanceJob[], options: AdvanceOptions = {}): Advance {
  if (options.cancelRequested === true) return endAll(jobs, 'canceled');
  if (options.timedOut === true) return endAll(jobs, 'timed_out');
  const states = new Map(jobs.map(({ id, state }) => [id, state]));
  const skip = options.stopOnFailure === true && jobs.some(hasFailed) ? jobs.filter(isWaiting).map(idOf) : [];
  for (const id of skip) states.set(id, 'skipped');
  skip.push(...skipDependents(jobs, states));
  const schedule = jobs.filter((job) => states.get(job.id) === 'pending' && isReady(job, states)).map(idOf);
  for (const id of schedule) states.set(id, 'scheduled');
  skip.push(...skipUnreachable(states));
  return { skip, schedule, cancel: [], timeOut: [], state: rollUp([...states.values()], false) };
}

function endAll(jobs: readonly AdvanceJob[], end: 'canceled' | 'timed_out'): Advance {
  const isActive = ({ state }: AdvanceJob): boolean => state === 'assigned' || state === 'running';
  const stopping = end === 'canceled' ? 'canceling' : 'timing_out';
  const after = jobs.map((job) => (isWaiting(job) ? end : isActive(job) ? stopping : job.state));
  const open = jobs.filter((job) => isWaiting(job) || isActive(job));
  const ids = open.map(idOf);
  return {
    skip: [],
    schedule: [],
    cancel: end === 'canceled' ? ids : [],
    timeOut: end === 'timed_out' ? ids : [],
    state: rollUp(after, end === 'canceled'),
  };
}

/** Marks and returns every pending job behind one that will never pass. */
function skipDependents(jobs: readonly AdvanceJob[], states: Map<string, JobState>): readonly string[] {
  const dependents = dependentsOf(jobs);
  const skipped: string[] = [];
  const tainted = [...dependents.keys()].filter((id) => willNeverPass(states.get(id)));
  for (let id = tainted.pop(); id !== undefined; id = tainted.pop()) {
    for (const dependent of dependents.get(id) ?? []) {
      if (states.get(dependent) !== 'pending') continue;
      states.set(dependent, 'skipped');
      skipped.push(dependent);
      tainted.push(dependent);
    }
  }
  return skipped;
}

function dependentsOf(jobs: readonly AdvanceJob[]): ReadonlyMap<string, readonly string[]> {
  const dependents = new Map<string, string[]>();
  for (const { id, dependsOn } of jobs) {
    for (const prerequisite of dependsOn) {
      const known = dependents.get(prerequisite);
      if (known === undefined) dependents.set(prerequisite, [id]);
      else known.push(id);
    }
  }
  return dependents;
}

/** With nothing under way, what is still pending waits for itself in a circle: no plan has that, but a build ends whatever its rows say. */
function skipUnreachable(states: Map<string, JobState>): readonly string[] {
  const open = [...states].filter(([, state]) => !isFinishedJobState(state));
  if (open.some(([, state]) => state !== 'pending')) return [];
  for (const [id] of open) states.set(id, 'skipped');
  return open.map(([id]) => id);
}

function isReady(job: AdvanceJob, states: ReadonlyMap<string, JobState>): boolean {
  return job.dependsOn.every((id) => states.get(id) === 'passed');
}

function willNeverPass(state: JobState | undefined): boolean {
  return state === undefined || (isFinishedJobState(state) && state !== 'passed');
}

function hasFailed({ state }: AdvanceJob): boolean {
  return state === 'failed' || state === 'timed_out';
}

function isWaiting({ state }: AdvanceJob): boolean {
  return state === 'pending' || state === 'scheduled';
}

function idOf({ id }: AdvanceJob): string {
  return id;
}
