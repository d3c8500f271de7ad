import { AppError } from '@caisson/contracts/app-error';
import { planPipeline } from '@caisson/core/plan-pipeline';
import { v7 as newId } from 'uuid';
import type { BuildRow } from '../store/build-row.ts';
import type { Tx } from '../store/database.ts';
import type { CreatedBuild, NewBuild } from './engine.ts';
import { materialize, renderJob } from './materialize.ts';
import type { Notifications } from './notifications.ts';
import { type BuildChange, changeBuildIn, type TransitionDeps } from './transition.ts';

const longestWaitMs = 180_000;
const lookAgainMs = 1_000;

export interface CreateBuildDeps extends TransitionDeps {
  readonly notifications: Notifications;
  /** Aborts when the control plane stops; the build goes on elsewhere. */
  readonly stopping: AbortSignal;
}

/** See `Engine.createBuild`. */
export async function createBuild(deps: CreateBuildDeps, input: NewBuild): Promise<CreatedBuild> {
  const buildId = newId();
  await deps.db.transaction().execute(async (tx) => {
    const number = await nextNumber(tx, input.pipelineId);
    await insertBuild(tx, input, { id: buildId, number });
    await changeBuildIn(deps, { tx, buildId }, (change) => begin(change, input.pipelineIr));
  });
  const build = await waitForPlan(deps, buildId);
  const isRejected = build.planned_at === null && build.status === 'failed' && build.error_code !== null;
  return {
    build,
    rejection: isRejected ? { code: build.error_code ?? '', message: build.error_message ?? '' } : null,
  };
}

async function begin(change: BuildChange, pipelineIr: string | null): Promise<void> {
  if (pipelineIr !== null) return planBuild(change, pipelineIr);
  const job = renderJob(change.build);
  await change.tx.insertInto('jobs').values(job).execute();
  await change.job(job.id, { kind: 'ready' });
}

/** Turns IR text into the build's jobs, or refuses the build with the reason. */
export async function planBuild(change: BuildChange, pipelineIr: string): Promise<void> {
  const result = planPipeline(pipelineIr);
  if (!result.ok) {
    await change.apply({ kind: 'rejected', error: { code: result.code, message: result.message } });
    return;
  }
  await materialize(change.tx, change.build, result.plan);
  await change.tx
    .updateTable('builds')
    .set({ timeout_ms: result.plan.timeoutMs })
    .where('id', '=', change.build.id)
    .execute();
  await change.apply({ kind: 'planned', timeoutMs: result.plan.timeoutMs });
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
      scheduled_at: new Date(),
      timeout_ms: null,
      error_code: null,
      error_message: null,
    })
    .execute();
}

/** The build once its graph is known or it is over; after `longestWaitMs` as it is. */
async function waitForPlan({ db, notifications, stopping }: CreateBuildDeps, buildId: string): Promise<BuildRow> {
  const endsAtMs = Date.now() + longestWaitMs;
  let wake = () => {};
  const unsubscribe = notifications.on('build', buildId, () => wake());
  const stop = () => wake();
  stopping.addEventListener('abort', stop);
  try {
    for (;;) {
      if (stopping.aborted)
        throw new AppError('service_unavailable', 'the server stops; the build goes on when it is back');
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, lookAgainMs).unref();
      });
      const build = await db.selectFrom('builds').selectAll().where('id', '=', buildId).executeTakeFirstOrThrow();
      if (build.planned_at !== null || build.finished_at !== null || Date.now() > endsAtMs) return build;
      await woken;
    }
  } finally {
    unsubscribe();
    stopping.removeEventListener('abort', stop);
  }
}
