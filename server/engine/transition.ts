import { advance } from '@caisson/core/advance';
import type { BuildEffect, BuildEvent } from '@caisson/core/build';
import { isFinishedJobState, type JobEffect, type JobEvent, type JobState } from '@caisson/core/job';
import type { StepRefusalCode } from '@caisson/core/step';
import { stepBuild } from '@caisson/core/step-build';
import { stepJob } from '@caisson/core/step-job';
import { sql } from 'kysely';
import { type BuildRow, buildColumns, buildOf } from '../store/build-row.ts';
import type { Database, Tx } from '../store/database.ts';
import { jobColumns, jobOf } from '../store/job-row.ts';
import type { Effects } from './effects.ts';
import { appendNote } from './job-log.ts';
import { endLease } from './lease.ts';
import { notify as notifyAll, type Topic } from './notifications.ts';

export interface TransitionDeps {
  readonly db: Database;
  readonly effects: Effects;
}

/**
 * One build and its jobs under lock; the locks let rows that refer to them (log chunks) be inserted meanwhile. Everything it writes
 * commits together, or not at all.
 */
export interface BuildChange {
  readonly tx: Tx;
  /** The row as it was when the change began. */
  readonly build: BuildRow;
  /** By the database's clock. */
  readonly nowMs: number;
  /** Sends an event to a job of this build; a refusal changes nothing. */
  job(jobId: string, event: JobEvent): Promise<Stepped>;
  /** Sends an event to the build. */
  apply(event: BuildEvent): Promise<Stepped>;
  notify(topic: Topic, id: string): Promise<void>;
}

export type Stepped = { readonly ok: true } | { readonly ok: false; readonly code: StepRefusalCode };

/**
 * The only door through which a status changes: locks the build, lets `work` send events to it and its jobs, lets everything that
 * follows from them happen (skips, jobs that became ready, the build's own state), appends the events, enqueues the effects,
 * notifies, commits. Locks are always taken build first, so two changes never wait for each other. Null when there is no such build.
 */
export async function changeBuild<T>(
  deps: TransitionDeps,
  buildId: string,
  work: (change: BuildChange) => Promise<T>,
): Promise<T | null> {
  return deps.db.transaction().execute((tx) => changeBuildIn(deps, { tx, buildId }, work));
}

/** `changeBuild` as part of a larger transaction. */
export async function changeBuildIn<T>(
  deps: TransitionDeps,
  { tx, buildId }: { tx: Tx; buildId: string },
  work: (change: BuildChange) => Promise<T>,
): Promise<T | null> {
  const locked = await lockBuild(tx, buildId);
  if (locked === null) return null;
  const change = new LockedBuild(deps, tx, locked);
  const result = await work(change);
  await change.settle();
  return result;
}

interface Locked {
  readonly build: BuildRow;
  /** By the database's clock. */
  readonly nowMs: number;
}

async function lockBuild(tx: Tx, buildId: string): Promise<Locked | null> {
  const row = await tx
    .selectFrom('builds')
    .selectAll()
    .select(sql<number>`(extract(epoch from clock_timestamp()) * 1000)::float8`.as('now_ms'))
    .where('id', '=', buildId)
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (row === undefined) return null;
  const { now_ms: nowMs, ...build } = row;
  return { build, nowMs };
}

/** The locked build while a change goes on; `settle` ends it. */
class LockedBuild implements BuildChange {
  readonly tx: Tx;
  readonly build: BuildRow;
  readonly nowMs: number;
  readonly #effects: Effects;
  readonly #notices = new Set<string>();
  #row: BuildRow;
  #mustAdvance = false;

  constructor({ effects }: TransitionDeps, tx: Tx, { build, nowMs }: Locked) {
    this.tx = tx;
    this.build = build;
    this.nowMs = nowMs;
    this.#effects = effects;
    this.#row = build;
  }

  async notify(topic: Topic, id: string): Promise<void> {
    if (this.#notices.has(`${topic}:${id}`)) return;
    this.#notices.add(`${topic}:${id}`);
    await notifyAll(this.tx, topic, id);
  }

  async job(jobId: string, event: JobEvent): Promise<Stepped> {
    const { tx, build } = this;
    const before = await tx.selectFrom('jobs').selectAll().where('id', '=', jobId).forNoKeyUpdate().executeTakeFirst();
    if (before === undefined || before.build_id !== build.id) return { ok: false, code: 'illegal_transition' };
    const step = stepJob(jobOf(before), event, this.nowMs);
    if (!step.ok) return step;
    await tx.updateTable('jobs').set(jobColumns(step.state)).where('id', '=', jobId).execute();
    await record(tx, before, { kind: `job.${step.state.status}`, cause: event.kind });
    if (step.state.status === 'scheduled' && before.status !== 'pending') {
      const line = `attempt ${step.state.attempt} of ${step.state.maxAttempts} was lost; trying again`;
      await appendNote(tx, jobId, { line, atMs: this.nowMs });
    }
    for (const effect of step.effects) await this.#oweForJob(jobId, effect);
    if (before.kind === 'render' && isFinishedJobState(step.state.status)) {
      await this.#effects.enqueue(tx, { kind: 'plan_rendered_build', buildId: build.id });
    }
    await this.notify('job', jobId);
    return { ok: true };
  }

  async apply(event: BuildEvent): Promise<Stepped> {
    const { tx, build, nowMs } = this;
    const before = this.#row;
    const step = stepBuild(buildOf(before), event, nowMs);
    if (!step.ok) return step;
    const planned_at = event.kind === 'planned' ? new Date(nowMs) : before.planned_at;
    const columns = { ...buildColumns(step.state), planned_at };
    const changed = tx.updateTable('builds').set(columns).where('id', '=', build.id).returningAll();
    this.#row = await changed.executeTakeFirstOrThrow();
    if (step.state.status !== before.status || event.kind !== 'jobs_changed') {
      await record(tx, this.#row, { kind: `build.${step.state.status}`, cause: event.kind });
    }
    for (const effect of step.effects) await this.#oweForBuild(effect);
    await this.notify('build', build.id);
    return { ok: true };
  }

  /** Until nothing more follows: what the jobs do next, then what that makes of the build. */
  async settle(): Promise<void> {
    if (!this.#mustAdvance) return;
    const jobs = await loadGraph(this.tx, this.#row);
    const hasMoved = await this.#advance(jobs);
    const states = (hasMoved ? await loadGraph(this.tx, this.#row) : jobs).map(({ state }) => state);
    const startedAtMs = this.#row.started_at === null ? await firstStart(this.tx, this.build.id) : null;
    this.#mustAdvance = false;
    await this.apply({ kind: 'jobs_changed', states, startedAtMs });
    await this.settle();
  }

  async #advance(jobs: readonly GraphJob[]): Promise<boolean> {
    const { cancel_requested: cancelRequested, timed_out: timedOut, stop_on_failure: stopOnFailure } = this.#row;
    const next = advance(jobs, { cancelRequested, timedOut, stopOnFailure });
    for (const id of next.skip) await this.job(id, { kind: 'skip' });
    for (const id of next.schedule) await this.job(id, { kind: 'ready' });
    for (const id of next.cancel) await this.job(id, { kind: 'cancel' });
    for (const id of next.timeOut) await this.job(id, { kind: 'build_timeout' });
    return next.skip.length + next.schedule.length + next.cancel.length + next.timeOut.length > 0;
  }

  async #oweForJob(jobId: string, effect: JobEffect): Promise<void> {
    switch (effect.kind) {
      case 'place_job':
        return this.notify('placement', 'all');
      case 'run_job':
        return this.#notifyHolder(effect.leaseId);
      case 'cancel_run':
        await this.tx
          .updateTable('leases')
          .set({ cancel_reason: effect.reason })
          .where('id', '=', effect.leaseId)
          .execute();
        return this.#notifyHolder(effect.leaseId);
      case 'end_lease':
        await endLease(this.tx, effect, this.nowMs);
        return this.notify('placement', 'all');
      case 'start_stop_timer': {
        const { leaseId, afterMs } = effect;
        const owed = { kind: 'stop_deadline', buildId: this.build.id, jobId, leaseId } as const;
        return this.#effects.enqueue(this.tx, owed, afterMs);
      }
      case 'advance_build':
        this.#mustAdvance = true;
    }
  }

  async #oweForBuild(effect: BuildEffect): Promise<void> {
    const buildId = this.build.id;
    switch (effect.kind) {
      case 'advance_build':
        this.#mustAdvance = true;
        return;
      case 'start_build_timer':
        return this.#effects.enqueue(this.tx, { kind: 'build_deadline', buildId }, effect.atMs - this.nowMs);
      case 'build_finished':
        return this.#effects.enqueue(this.tx, { kind: 'release_layers', buildId });
    }
  }

  async #notifyHolder(leaseId: string): Promise<void> {
    const lease = await this.tx
      .selectFrom('leases')
      .select('host_id')
      .where('id', '=', leaseId)
      .executeTakeFirstOrThrow();
    await this.notify('host', lease.host_id);
  }
}

interface GraphJob {
  readonly id: string;
  readonly state: JobState;
  readonly dependsOn: readonly string[];
}

/** The jobs that speak for a build: its steps once it is planned, until then the one that renders it. */
async function loadGraph(tx: Tx, build: BuildRow): Promise<readonly GraphJob[]> {
  const kind = build.planned_at === null ? 'render' : 'step';
  const jobs = await tx
    .selectFrom('jobs')
    .select(['id', 'status'])
    .where('build_id', '=', build.id)
    .where('kind', '=', kind)
    .orderBy('position')
    .execute();
  const edges = await tx
    .selectFrom('job_dependencies')
    .select(['job_id', 'needs_job_id'])
    .where('build_id', '=', build.id)
    .execute();
  const needs = new Map<string, string[]>(jobs.map(({ id }) => [id, []]));
  for (const edge of edges) needs.get(edge.job_id)?.push(edge.needs_job_id);
  return jobs.map(({ id, status }) => ({ id, state: status, dependsOn: needs.get(id) ?? [] }));
}

async function firstStart(tx: Tx, buildId: string): Promise<number | null> {
  const { first } = await tx
    .selectFrom('jobs')
    .select(({ fn }) => fn.min('started_at').as('first'))
    .where('build_id', '=', buildId)
    .where('kind', '=', 'step')
    .executeTakeFirstOrThrow();
  return first === null ? null : new Date(first).getTime();
}

async function record(
  tx: Tx,
  subject: { id: string; organization_id: string },
  { kind, cause }: { kind: string; cause: string },
): Promise<void> {
  await tx
    .insertInto('events')
    .values({ organization_id: subject.organization_id, kind, subject: subject.id, payload: JSON.stringify({ cause }) })
    .execute();
}
