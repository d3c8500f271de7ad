import { crashPoint } from '@caisson/contracts/crash-point';
import type { BuildEffect, BuildEvent } from '@caisson/core/build';
import { isFinishedJobState, type JobEffect, type JobEvent } from '@caisson/core/job';
import type { StepRefusalCode } from '@caisson/core/step';
import { stepBuild } from '@caisson/core/step-build';
import { stepJob } from '@caisson/core/step-job';
import { sql } from 'kysely';
import { type BuildRow, buildColumns, buildOf } from '../store/build-row.ts';
import type { Tx } from '../store/database.ts';
import { type JobStateRow, jobColumns, jobOf } from '../store/job-row.ts';
import { settle } from './advance-builds.ts';
import { ChangeSet, type TransitionDeps } from './change-set.ts';
import { endedLease } from './lease.ts';
import type { Notice } from './notifications.ts';

export type { TransitionDeps } from './change-set.ts';

/** One build and its jobs under lock. Everything a change writes commits together, or not at all. */
export interface BuildChange {
  readonly set: ChangeSet;
  /** The row as it was when the change began. */
  readonly build: BuildRow;
  /** Sends an event to a job of this build; a refusal changes nothing. */
  job(jobId: string, event: JobEvent): Promise<Stepped>;
  /** Sends an event to the build. */
  apply(event: BuildEvent): Promise<Stepped>;
  /** Looks at all its jobs again, whatever has changed. */
  review(): void;
}

export type Stepped = { readonly ok: true } | { readonly ok: false; readonly code: StepRefusalCode };

/** Several builds under lock, by id; a build that does not exist is missing. */
export interface BuildChanges {
  readonly set: ChangeSet;
  readonly builds: ReadonlyMap<string, BuildChange>;
}

const mostTries = 5;
/** Serialization failure and deadlock: PostgreSQL's way of asking to do it once more. */
const onceMore: ReadonlySet<unknown> = new Set(['40001', '40P01']);

/**
 * The only door through which a status changes: locks the builds, lets `work` send events to them and their jobs, lets everything
 * that follows from them happen (skips, jobs that became ready, the builds' own states), appends the events, enqueues the effects,
 * notifies, commits. `work` may run more than once. Locks are taken in one order (builds by id, leases by id, logs), so changes do
 * not wait for each other in a circle.
 */
export async function changeBuilds<T>(
  deps: TransitionDeps,
  buildIds: readonly string[],
  work: (changes: BuildChanges) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      const { result, notices } = await deps.db
        .transaction()
        .execute((tx) => changeBuildsIn(deps, { tx, buildIds }, work));
      crashPoint('change.committed');
      deps.notifications.wake(notices);
      return result;
    } catch (error) {
      if (tries >= mostTries || !onceMore.has((error as { code?: unknown }).code)) throw error;
    }
  }
}

/** `changeBuilds` of one build; null when there is no such build. */
export async function changeBuild<T>(
  deps: TransitionDeps,
  buildId: string,
  work: (change: BuildChange) => Promise<T>,
): Promise<T | null> {
  return changeBuilds(deps, [buildId], async ({ builds }) => {
    const change = builds.get(buildId);
    return change === undefined ? null : work(change);
  });
}

/** `changeBuilds` as part of a larger transaction; whoever commits it wakes those who listen for `notices`. */
export async function changeBuildsIn<T>(
  deps: TransitionDeps,
  { tx, buildIds }: { tx: Tx; buildIds: readonly string[] },
  work: (changes: BuildChanges) => Promise<T>,
): Promise<{ result: T; notices: Iterable<Notice> }> {
  const { rows, nowMs } = await lockBuilds(tx, buildIds);
  const set = new ChangeSet(deps, tx, nowMs);
  const builds = new Map(rows.map((row) => [row.id, new LockedBuild(set, row)]));
  const result = await work({ set, builds });
  await settle(set, [...builds.values()]);
  await set.write();
  crashPoint('change.written');
  return { result, notices: set.notices };
}

/** The locks let rows that refer to the builds be inserted meanwhile. */
async function lockBuilds(tx: Tx, ids: readonly string[]): Promise<{ rows: readonly BuildRow[]; nowMs: number }> {
  const rows = await tx
    .selectFrom('builds')
    .selectAll()
    .select(sql<number>`(extract(epoch from clock_timestamp()) * 1000)::float8`.as('now_ms'))
    .where(({ eb, val }) => eb('id', '=', eb.fn.any(val(ids))))
    .orderBy('id')
    .forNoKeyUpdate()
    .execute();
  const nowMs = Math.max(0, ...rows.map(({ now_ms }) => now_ms));
  return { rows: rows.map(({ now_ms: _nowMs, ...row }) => row), nowMs };
}

/** A locked build while a change goes on; `settle` ends it. */
export class LockedBuild implements BuildChange {
  readonly set: ChangeSet;
  readonly build: BuildRow;
  /** The row as it will be. */
  row: BuildRow;
  /** Jobs that changed and what follows from them has not happened yet. */
  readonly moved = new Set<string>();
  /** Jobs that became ready meanwhile. */
  readonly readied = new Set<string>();
  /** What follows depends on more than the jobs that changed. */
  mustReview = false;

  constructor(set: ChangeSet, build: BuildRow) {
    this.set = set;
    this.build = build;
    this.row = build;
  }

  review(): void {
    this.mustReview = true;
  }

  /** Everything has followed. */
  forget(): void {
    this.moved.clear();
    this.readied.clear();
    this.mustReview = false;
  }

  async job(jobId: string, event: JobEvent): Promise<Stepped> {
    const { set, build } = this;
    await set.readJobs([jobId]);
    const before = set.job(jobId);
    if (before === undefined || before.build_id !== build.id) return { ok: false, code: 'illegal_transition' };
    const step = stepJob(jobOf(before), event, set.nowMs);
    if (!step.ok) return step;
    const { status } = step.state;
    set.putJob({ ...before, ...jobColumns(step.state) });
    record(set, before, { kind: `job.${status}`, cause: event.kind });
    // One that was refused has printed nothing.
    if (status === 'scheduled' && before.status !== 'pending' && event.kind !== 'refused') {
      set.beginAttempt(jobId, `attempt ${step.state.attempt} of ${step.state.maxAttempts} was lost; trying again`);
    }
    for (const effect of step.effects) await this.#oweForJob(before, effect);
    if (before.kind === 'render' && isFinishedJobState(status)) {
      set.owe({ kind: 'plan_rendered_build', buildId: build.id });
    }
    set.notices.add(`job:${jobId}`);
    set.notices.add(`build:${build.id}`);
    return { ok: true };
  }

  async apply(event: BuildEvent): Promise<Stepped> {
    const { set, row: before } = this;
    const step = stepBuild(buildOf(before), event, set.nowMs);
    if (!step.ok) return step;
    const planned_at = event.kind === 'planned' ? new Date(set.nowMs) : before.planned_at;
    this.row = { ...before, ...buildColumns(step.state), planned_at };
    for (const effect of step.effects) this.#oweForBuild(effect);
    if (this.row.status !== before.status || event.kind !== 'jobs_changed') {
      record(set, this.row, { kind: `build.${step.state.status}`, cause: event.kind });
    } else if (this.row.started_at?.getTime() === before.started_at?.getTime()) return { ok: true };
    set.putBuild(this.row);
    set.notices.add(`build:${this.row.id}`);
    return { ok: true };
  }

  async #oweForJob(job: JobStateRow, effect: JobEffect): Promise<void> {
    const { set } = this;
    switch (effect.kind) {
      case 'place_job':
        this.readied.add(job.id);
        set.notices.add('placement:all');
        return;
      case 'run_job':
        return this.#changeLease(effect.leaseId, {});
      case 'cancel_run':
        return this.#changeLease(effect.leaseId, { cancel_reason: effect.reason });
      case 'start_stop_timer':
        return this.#changeLease(effect.leaseId, { due_at: new Date(set.nowMs + effect.afterMs) });
      case 'end_lease': {
        await set.readLeases([effect.leaseId]);
        const lease = set.lease(effect.leaseId);
        if (lease !== undefined) set.putLease(endedLease(lease, effect.isLost, set.nowMs));
        set.notices.add('placement:all');
        return;
      }
      case 'advance_build':
        this.moved.add(job.id);
    }
  }

  async #changeLease(leaseId: string, columns: { cancel_reason?: 'canceled' | 'timed_out' | 'lost'; due_at?: Date }) {
    const { set } = this;
    await set.readLeases([leaseId]);
    const lease = set.lease(leaseId);
    if (lease === undefined) return;
    set.notices.add(`host:${lease.host_id}`);
    if (Object.keys(columns).length > 0) set.putLease({ ...lease, ...columns });
  }

  #oweForBuild(effect: BuildEffect): void {
    switch (effect.kind) {
      case 'advance_build':
        this.mustReview = true;
        return;
      case 'start_build_timer':
        this.row = { ...this.row, deadline_at: new Date(effect.atMs) };
        return;
      case 'build_finished':
        this.set.endBuild(this.build.id);
    }
  }
}

function record(
  set: ChangeSet,
  { id, organization_id }: { id: string; organization_id: string },
  { kind, cause }: { kind: string; cause: string },
): void {
  set.addEvent({ organization_id, kind, subject: id, payload: { cause } });
}
