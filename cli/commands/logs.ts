import type { Command } from 'commander';
import { readBuildRef } from '../build-ref.ts';
import { type BuildRef, type Job, listJobs } from '../build-requests.ts';
import { CliError } from '../cli-error.ts';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../exit-codes.ts';
import { readLog } from '../follow-build.ts';
import { nameOf } from '../job-text.ts';
import { makeLineWriter } from '../line-writer.ts';
import { onStop } from '../on-stop.ts';
import { type OpenServer, requireServer } from '../open-server.ts';

const lookEveryMs = 250;

/** `caisson logs <build> [job]`. */
export function registerLogs(program: Command, context: CliContext): void {
  program
    .command('logs')
    .summary("show a build's output")
    .description("Shows the output of a build's jobs, in the order of the build, or of one job.")
    .argument('<build>', 'pipeline#number, or pipeline for its newest build')
    .argument('[job]', 'key or label of a job')
    .option('-f, --follow', 'go on until the jobs are over')
    .action((build: string, job: string | undefined, options: { readonly follow?: boolean }) =>
      logs(context, { build, job: job ?? null, follow: options.follow === true }),
    );
}

interface LogsRequest {
  readonly build: string;
  readonly job: string | null;
  readonly follow: boolean;
}

async function logs(context: CliContext, { build, job, follow }: LogsRequest): Promise<void> {
  const server = await requireServer(context.config);
  const ref = await readBuildRef(server, context.config.organization, build);
  const stops = onStop();
  try {
    for (const chosen of choose((await listJobs(server, ref)).data, job)) {
      await showJob(context, server, { ref, job: chosen, follow, isOnly: job !== null, signal: stops.first });
    }
  } finally {
    stops.release();
  }
}

function choose(jobs: readonly Job[], wanted: string | null): readonly Job[] {
  if (wanted === null) return jobs;
  const job = jobs.find(({ step_key, name, id }) => [step_key, name, id].includes(wanted));
  if (job !== undefined) return [job];
  throw new CliError(`the build has no job "${wanted}"`, {
    exitCode: exitCodes.usage,
    code: 'job_not_found',
    hint: `it has ${jobs.map(nameOf).join(', ')}`,
  });
}

interface ShowRequest {
  readonly ref: BuildRef;
  readonly job: Job;
  readonly follow: boolean;
  readonly isOnly: boolean;
  readonly signal: AbortSignal;
}

/** Without `follow`, what is there when nothing more comes for a moment. */
async function showJob(context: CliContext, server: OpenServer, request: ShowRequest): Promise<void> {
  const { ref, job, follow, isOnly, signal } = request;
  if (job.finished_at === null && !follow && job.started_at === null) return;
  const lines = makeLineWriter((name, line) => context.stdout.write(isOnly ? `${line}\n` : `${name} | ${line}\n`));
  const quiet = new AbortController();
  const isOpen = job.finished_at === null && !follow;
  let timer = isOpen ? setTimeout(() => quiet.abort(), 4 * lookEveryMs) : null;
  for await (const chunk of readLog(server, { ref, jobId: job.id, signal: AbortSignal.any([signal, quiet.signal]) })) {
    if (context.json) context.stdout.write(`${JSON.stringify({ job: job.step_key, ...chunk })}\n`);
    else lines.write(nameOf(job), chunk.content);
    if (timer === null) continue;
    clearTimeout(timer);
    timer = setTimeout(() => quiet.abort(), lookEveryMs);
  }
  if (timer !== null) clearTimeout(timer);
  lines.flush();
}
