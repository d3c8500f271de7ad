import { advance } from '@caisson/core/advance';
import { isFinishedJobState, type JobState } from '@caisson/core/job';
import type { JobStateRow } from '../store/job-row.ts';
import { loadDependents, loadGraph, loadStates } from './build-graph.ts';
import type { ChangeSet } from './change-set.ts';
import type { LockedBuild } from './transition.ts';

/**
 * What follows from the jobs that changed: what other jobs do next, then what that makes of their builds. Where only some jobs have
 * moved on, it asks for what stands behind these alone; everything else goes through `advance` with the whole graph. Both come to the
 * same (`server/test/engine-advance.test.ts`).
 */
export async function settle(set: ChangeSet, builds: readonly LockedBuild[]): Promise<void> {
  const due = builds.filter(({ moved, mustReview }) => mustReview || moved.size > 0);
  if (due.length === 0) return;
  const whole = new Set(due.filter((build) => mustSeeAll(set, build)));
  const partly = due.filter((build) => !whole.has(build));
  await readyDependents(set, partly, whole);
  for (const build of whole) await advanceWhole(set, build);
  await followJobs(set, due);
}

function movedJobs(set: ChangeSet, { moved }: LockedBuild): readonly JobStateRow[] {
  return [...moved].flatMap((id) => set.job(id) ?? []);
}

function mustSeeAll(set: ChangeSet, build: LockedBuild): boolean {
  const { status, planned_at, stop_on_failure, cancel_requested, timed_out } = build.row;
  if (build.mustReview || planned_at === null) return true;
  const jobs = movedJobs(set, build);
  if (cancel_requested || timed_out) return jobs.some((job) => !isFinishedJobState(job.status));
  return stop_on_failure && (status === 'failing' || jobs.some((job) => willNeverPass(job.status)));
}

function willNeverPass(status: JobState): boolean {
  return isFinishedJobState(status) && status !== 'passed';
}

async function readyDependents(set: ChangeSet, partly: readonly LockedBuild[], whole: Set<LockedBuild>): Promise<void> {
  const open = partly.filter(({ row }) => !row.cancel_requested && !row.timed_out);
  const ended = open.flatMap((build) => movedJobs(set, build).filter(({ status }) => isFinishedJobState(status)));
  const { ready, doomed } = await loadDependents(set.tx, ended);
  const byId = new Map(open.map((build) => [build.build.id, build]));
  for (const { build_id } of doomed) {
    const build = byId.get(build_id);
    if (build !== undefined) whole.add(build);
  }
  set.knowJobs(ready);
  for (const { id, build_id } of ready) await byId.get(build_id)?.job(id, { kind: 'ready' });
}

async function advanceWhole(set: ChangeSet, build: LockedBuild): Promise<void> {
  const { cancel_requested: cancelRequested, timed_out: timedOut, stop_on_failure: stopOnFailure } = build.row;
  await set.writeStates();
  const { rows, graph } = await loadGraph(set.tx, build.row);
  set.knowJobs(rows);
  const next = advance(graph, { cancelRequested, timedOut, stopOnFailure });
  const stopping = [...next.cancel, ...next.timeOut];
  await set.readLeases(stopping.flatMap((id) => set.job(id)?.lease_id ?? []));
  for (const id of next.skip) await build.job(id, { kind: 'skip' });
  for (const id of next.schedule) await build.job(id, { kind: 'ready' });
  for (const id of next.cancel) await build.job(id, { kind: 'cancel' });
  for (const id of next.timeOut) await build.job(id, { kind: 'build_timeout' });
}

/** The builds' own states, by those that occur among their jobs. */
async function followJobs(set: ChangeSet, due: readonly LockedBuild[]): Promise<void> {
  const toAsk = due.filter((build) => impliedStates(set, build) === null);
  let states = await askStates(set, toAsk);
  const stuck = toAsk.filter(({ build }) => isStuck(states.get(build.id) ?? []));
  if (stuck.length > 0) {
    for (const build of stuck) await advanceWhole(set, build);
    states = await askStates(set, toAsk);
  }
  for (const build of due) {
    const known = states.get(build.build.id) ?? impliedStates(set, build) ?? [];
    await build.apply({ kind: 'jobs_changed', states: known, startedAtMs: firstStart(set, build) });
    build.forget();
  }
}

async function askStates(
  set: ChangeSet,
  builds: readonly LockedBuild[],
): Promise<ReadonlyMap<string, readonly JobState[]>> {
  if (builds.length === 0) return new Map();
  await set.writeStates();
  const rows = builds.map(({ row }) => row);
  return loadStates(set.tx, rows);
}

/**
 * While a job that changed is not over, neither is the build, and whether one has failed before is in the build's own state: states
 * that come to the same as those of all jobs do. Null when the jobs have to be asked.
 */
function impliedStates(set: ChangeSet, build: LockedBuild): readonly JobState[] | null {
  if (build.row.planned_at === null || build.mustReview) return null;
  const states = [...build.moved, ...build.readied].flatMap((id) => set.job(id)?.status ?? []);
  if (states.every(isFinishedJobState)) return null;
  return build.row.status === 'failing' ? [...states, 'failed'] : states;
}

/** Nothing is under way and yet something waits: only the whole graph can say for what. */
function isStuck(states: readonly JobState[]): boolean {
  return states.includes('pending') && states.every((state) => state === 'pending' || isFinishedJobState(state));
}

function firstStart(set: ChangeSet, build: LockedBuild): number | null {
  if (build.row.started_at !== null) return null;
  const starts = movedJobs(set, build).flatMap(({ kind, started_at }) =>
    kind === 'step' && started_at ? [started_at.getTime()] : [],
  );
  return starts.length === 0 ? null : Math.min(...starts);
}
