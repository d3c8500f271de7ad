import { isFinishedJobState } from '@caisson/core/job';
import type { Tx } from '../store/database.ts';
import type { JobRow } from '../store/job-row.ts';
import { planBuild } from './create-build.ts';
import { type BuildChange, changeBuild, type TransitionDeps } from './transition.ts';

const shownErrorLength = 4_000;
const stdout = 0;

/** Takes the outcome of a build's rendering: plans the printed IR or refuses the build. Does nothing when that was done before. */
export async function planRenderedBuild(deps: TransitionDeps, buildId: string): Promise<void> {
  await changeBuild(deps, buildId, async (change) => {
    if (change.build.planned_at !== null || change.build.finished_at !== null) return;
    const job = await change.tx
      .selectFrom('jobs')
      .selectAll()
      .where('build_id', '=', buildId)
      .where('kind', '=', 'render')
      .executeTakeFirst();
    if (job === undefined || !isFinishedJobState(job.status) || change.build.cancel_requested) return;
    if (job.status === 'passed') await planOutput(change, job);
    else await change.apply({ kind: 'rejected', error: await renderError(change.tx, job) });
  });
}

async function planOutput(change: BuildChange, job: JobRow): Promise<void> {
  const ir = await readLog(change.tx, job, (stream) => stream === stdout);
  if (ir.trim() !== '') return planBuild(change, ir);
  const error = { code: 'render_failed', message: 'The pipeline file printed no pipeline.' };
  await change.apply({ kind: 'rejected', error });
}

async function renderError(tx: Tx, job: JobRow): Promise<{ code: string; message: string }> {
  if (job.status === 'timed_out') {
    return {
      code: 'render_failed',
      message: 'Rendering the pipeline took too long. Does its file wait for something?',
    };
  }
  if (job.error_code !== null) return { code: 'render_failed', message: job.error_message ?? job.error_code };
  const output =
    (await readLog(tx, job, (stream) => stream === 1)).trim() || (await readLog(tx, job, () => true)).trim();
  return {
    code: 'render_failed',
    message: output.slice(0, shownErrorLength) || `Rendering ended with exit code ${job.exit_code}.`,
  };
}

async function readLog(tx: Tx, job: JobRow, isWanted: (stream: number) => boolean): Promise<string> {
  const chunks = await tx
    .selectFrom('log_chunks')
    .select(['stream', 'content'])
    .where('job_id', '=', job.id)
    .orderBy('seq')
    .execute();
  return Buffer.concat(chunks.filter(({ stream }) => isWanted(stream)).map(({ content }) => content)).toString('utf8');
}
