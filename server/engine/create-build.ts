import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { planPipeline } from '@caisson/core/plan-pipeline';
import { sql } from 'kysely';
import type { BuildRow } from '../store/build-row.ts';
import type { Database, Tx } from '../store/database.ts';
import type { CreatedBuild, NewBuild } from './engine.ts';
import { materialize, renderJob } from './materialize.ts';
import type { Notifications } from './notifications.ts';
import type { Surroundings } from './surroundings.ts';
import { type BuildChange, changeBuildsIn, type TransitionDeps } from './transition.ts';

const longestWaitMs = 180_000;
const lookAgainMs = 1_000;

export interface CreateBuildDeps extends TransitionDeps, Surroundings {
  readonly notifications: Notifications;
  /** Aborts when the control plane stops; the build goes on elsewhere. */
  readonly stopping: AbortSignal;
}

/** See `Engine.createBuild`. */
export async function createBuild(deps: CreateBuildDeps, input: NewBuild): Promise<CreatedBuild> {
  const buildId = deps.newId();
  // Before the transaction, which keeps the next build of this pipeline waiting.
  const plan = input.pipelineIr === null ? null : planPipeline(input.pipelineIr);
  const { notices } = await deps.db.transaction().execute(async (tx) => {
    const number = await nextNumber(tx, input.pipelineId);
    await insertBuild(tx, input, { id: buildId, number });
    return changeBuildsIn(deps, { tx, buildIds: [buildId] }, async ({ builds }) => {
      for (const change of builds.values()) await begin(change, plan);
    });
  });
  crashPoint('build.recorded');
  deps.notifications.wake(notices);
  const build = await waitForPlan(deps, buildId);
  const isRejected = build.planned_at === null && build.status === 'failed' && build.error_code !== null;
  return {
    build,
    rejection: isRejected ? { code: build.error_code ?? '', message: build.error_message ?? '' } : null,
  };
}

type PlanResult = ReturnType<typeof planPipeline>;

async function begin(change: BuildChange, plan: PlanResult | null): Promise<void> {
  if (plan !== null) return planBuild(change, plan);
  const job = renderJob(change.build, change.set.newId());
  await change.set.tx.insertInto('jobs').values(job).execute();
  await change.job(job.id, { kind: 'ready' });
}

/** Makes the jobs of a plan, or refuses the build with the reason why there is none. */
export async function planBuild(change: BuildChange, result: PlanResult): Promise<void> {
  if (!result.ok) {
    await change.apply({ kind: 'rejected', error: { code: result.code, message: result.message } });
    return;
  }
  const { tx } = change.set;
  await materialize(change.set, change.build, result.plan);
  const { timeoutMs } = result.plan;
  await tx.updateTable('builds').set({ timeout_ms: timeoutMs }).where('id', '=', change.build.id).execute();
  await change.apply({ kind: 'planned', timeoutMs });
}

async function nextNumber(tx: Tx, pipelineId: string): Promise<number> {
  const row = await tx
    .updateTable('pipelines')
    .set(({ eb }) => ({ last_build_number: eb('last_build_number', '+', 1) }))
    .where('id', '=', pipelineId)
    .returning('last_build_number')
    .executeTakeFirst();
  if (row === undefined) throw new AppError('pipeline_not_found', 'There is no such pipeline.');
  return row.last_build_number;
}

async function insertBuild(tx: Tx, input: NewBuild, { id, number }: { id: string; number: number }): Promise<void> {
  await tx
    .insertInto('builds')
    .values({
      id,
      number,
      organization_id: input.organizationId,
      pipeline_id: input.pipelineId,
      status: 'scheduled',
      trigger: input.trigger,
      branch: input.branch,
      commit: input.commit,
      message: input.message,
      env: JSON.stringify(input.env),
      source_digest: input.sourceDigest,
      render_slug: input.renderSlug,
      stop_on_failure: input.stopOnFailure,
      created_by: input.createdBy,
      scheduled_at: sql<Date>`clock_timestamp()`,
      timeout_ms: null,
      error_code: null,
      error_message: null,
    })
    .execute();
}

/** The build once its graph is known or it is over; after `longestWaitMs` as it is. */
async function waitForPlan(deps: CreateBuildDeps, buildId: string): Promise<BuildRow> {
  const { db, notifications, stopping, nowMs, pause } = deps;
  const endsAtMs = nowMs() + longestWaitMs;
  let wake = () => {};
  const unsubscribe = notifications.on('build', buildId, () => wake());
  const stop = () => wake();
  stopping.addEventListener('abort', stop);
  try {
    for (;;) {
      if (stopping.aborted)
        throw new AppError('service_unavailable', 'the server stops; the build goes on when it is back');
      const woken = new AbortController();
      wake = () => woken.abort();
      const isLate = nowMs() > endsAtMs;
      const build = await readBuild(db, buildId).catch((error) => {
        // The build exists; a database that is away for a moment is waited for.
        if (isLate) throw error;
        return null;
      });
      if (build !== null && (build.planned_at !== null || build.finished_at !== null || isLate)) return build;
      await pause(lookAgainMs, woken.signal);
    }
  } finally {
    unsubscribe();
    stopping.removeEventListener('abort', stop);
  }
}

function readBuild(db: Database, buildId: string): Promise<BuildRow> {
  return db.selectFrom('builds').selectAll().where('id', '=', buildId).executeTakeFirstOrThrow();
}
