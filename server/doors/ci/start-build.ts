import { AppError } from '@caisson/contracts/app-error';
import type { components } from '@caisson/contracts/ci/ci-api.generated';
import type { Trigger } from '../../store/schema.ts';
import { chooseSource } from './choose-source.ts';
import type { CiCaller, CiDeps } from './operation.ts';
import { refusedPlan } from './refused-plan.ts';
import type { PipelineScope } from './scope.ts';
import { type BuildRow, selectBuilds } from './select.ts';

export interface BuildRequest extends PipelineScope {
  readonly body: components['schemas']['CreateBuildRequest'];
  /** Null takes the only pipeline of the source, or of several the one with this pipeline's slug. */
  readonly renderSlug: string | null;
}

/**
 * Starts a build the way both operations for it do. Throws `pipeline_manual_disabled`, `build_invalid`, `build_queue_full`, or
 * `build_plan_rejected` when the graph was refused: then the build exists and is failed.
 */
export async function startBuild(deps: CiDeps, caller: CiCaller, request: BuildRequest): Promise<BuildRow> {
  const { organization, pipeline, body } = request;
  // Whatever `source` says, a request through this door is somebody starting a build by hand.
  if (!pipeline.allow_manual) {
    throw new AppError('pipeline_manual_disabled', 'this pipeline is started by its triggers only');
  }
  const trigger = readTrigger(body.source ?? 'api');
  const env = readEnv(body.env ?? {});
  const pipelineIr = body.pipeline_ir?.trim() ? body.pipeline_ir : null;
  const sourceDigest = await chooseSource(deps, organization.id, body);
  if (pipelineIr === null && sourceDigest === null) {
    throw new AppError('build_invalid', 'give pipeline_ir, or a source to render the pipeline from');
  }
  await checkQueue(deps, organization.id);
  const { build, rejection } = await deps.engine.createBuild({
    organizationId: organization.id,
    pipelineId: pipeline.id,
    trigger,
    createdBy: 'userId' in caller ? caller.userId : null,
    branch: body.branch,
    commit: body.commit,
    message: body.message ?? null,
    env,
    sourceDigest,
    pipelineIr,
    renderSlug: pipelineIr === null ? request.renderSlug : null,
    stopOnFailure: body.stop_on_failure ?? false,
  });
  if (rejection) throw refusedPlan(rejection, build.number);
  return selectBuilds(deps.db).where('builds.id', '=', build.id).executeTakeFirstOrThrow();
}

/** Builds that are created at the same moment may go over the limit together: it keeps a queue from growing without end, no more. */
async function checkQueue({ db, maxUnfinishedBuilds }: CiDeps, organizationId: string): Promise<void> {
  const last = await db
    .selectFrom('builds')
    .select('id')
    .where('organization_id', '=', organizationId)
    .where('finished_at', 'is', null)
    .offset(maxUnfinishedBuilds - 1)
    .limit(1)
    .executeTakeFirst();
  if (last === undefined) return;
  const message = `${maxUnfinishedBuilds} builds of this organization are not over yet; wait for some of them, or cancel some`;
  throw new AppError('build_queue_full', message);
}

const triggers: readonly Trigger[] = ['webhook', 'ui', 'api', 'trigger_job', 'schedule'];

function readTrigger(source: string): Trigger {
  const trigger = triggers.find((known) => known === source);
  if (!trigger) throw new AppError('build_invalid', `source must be one of ${triggers.join(', ')}`);
  return trigger;
}

/** Names an operating system cannot hold are refused here rather than by every job. */
function readEnv(env: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const bad = Object.keys(env).find((name) => name === '' || name.includes('='));
  if (bad !== undefined) throw new AppError('build_invalid', `env: ${JSON.stringify(bad)} is not a variable's name`);
  return env;
}
