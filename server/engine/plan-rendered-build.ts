import { isFinishedJobState } from '@caisson/core/job';
import { planPipeline } from '@caisson/core/plan-pipeline';
import type { Database } from '../store/database.ts';
import type { JobRow } from '../store/job-row.ts';
import { planBuild } from './create-build.ts';
import { type BuildChange, changeBuild, type TransitionDeps } from './transition.ts';

const shownErrorLength = 4_000;
const stdout = 0;

/** Takes the outcome of a build's rendering: plans the printed IR or refuses the build. Does nothing when that was done before. */
export async function planRenderedBuild(deps: TransitionDeps, buildId: string): Promise<void> {
  const job = await deps.db
    .selectFrom('jobs')
    .selectAll()
    .where('build_id', '=', buildId)
    .where('kind', '=', 'render')
    .executeTakeFirst();
  if (job === undefined || !isFinishedJobState(job.status)) return;
  // Reading and planning take their time; the build is locked for the writing only.
  const outcome = job.status === 'passed' ? await readPlan(deps.db, job) : await renderError(deps.db, job);
  const end = (how: Outcome) => changeBuild(deps, buildId, (change) => conclude(change, how));
  try {
    await end(outcome);
  } catch (error) {
    if (!isRefusedData(error)) throw error;
    await end(refusal('The rendered pipeline holds something that cannot be stored.'));
  }
}

type Outcome =
  | { readonly ok: true; readonly plan: ReturnType<typeof planPipeline> }
  | { readonly ok: false; readonly error: { readonly code: string; readonly message: string } };

async function conclude(change: BuildChange, outcome: Outcome): Promise<void> {
  const { planned_at, finished_at, cancel_requested } = change.build;
  if (planned_at !== null || finished_at !== null || cancel_requested) return;
  if (outcome.ok) await planBuild(change, outcome.plan);
  else await change.apply({ kind: 'rejected', error: outcome.error });
}

function refusal(message: string): Outcome {
  return { ok: false, error: { code: 'render_failed', message } };
}

/** PostgreSQL's class 22: a value that a column does not take; it will not take it the next time either. */
function isRefusedData(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('22');
}

async function readPlan(db: Database, job: JobRow): Promise<Outcome> {
  const ir = await readLog(db, job, (stream) => stream === stdout);
  if (ir.trim() === '') return refusal('The pipeline file printed no pipeline.');
  return { ok: true, plan: planPipeline(ir) };
}

async function renderError(db: Database, job: JobRow): Promise<Outcome> {
  if (job.status === 'timed_out') {
    return refusal('Rendering the pipeline took too long. Does its file wait for something?');
  }
  if (job.error_code !== null) return refusal(job.error_message ?? job.error_code);
  const output =
    (await readLog(db, job, (stream) => stream === 1)).trim() || (await readLog(db, job, () => true)).trim();
  const shown = output.replaceAll('\0', '').slice(0, shownErrorLength).toWellFormed();
  return refusal(shown || `Rendering ended with exit code ${job.exit_code}.`);
}

/** What the job's last attempt wrote. */
async function readLog(db: Database, job: JobRow, isWanted: (stream: number) => boolean): Promise<string> {
  const chunks = await db
    .selectFrom('log_chunks')
    .select(['stream', 'content'])
    .where('job_id', '=', job.id)
    .where('seq', '>', job.log_start_seq)
    .orderBy('seq')
    .execute();
  return Buffer.concat(chunks.filter(({ stream }) => isWanted(stream)).map(({ content }) => content)).toString('utf8');
}
