import type { Command } from 'commander';
import picocolors from 'picocolors';
import { readBuildRef } from '../build-ref.ts';
import {
  type Build,
  cancelBuild,
  type Job,
  listJobs,
  listPipelines,
  newestBuilds,
  readBuild,
} from '../build-requests.ts';
import type { CliContext } from '../context.ts';
import { countsOf, durationOf, markOf, nameOf, noteOf, reasonOf } from '../job-text.ts';
import { requireServer } from '../open-server.ts';
import { print } from '../print.ts';

const shownBuilds = 20;
const mostPipelines = 100;

/** `caisson builds list|show|cancel`. */
export function registerBuilds(program: Command, context: CliContext): void {
  const builds = program.command('builds').description('list, show and cancel builds');
  builds
    .command('list')
    .description('Lists the newest builds, of one pipeline or of all.')
    .argument('[pipeline]', 'slug of a pipeline')
    .action((pipeline?: string) => list(context, pipeline ?? null));
  builds
    .command('show')
    .description('Shows a build and its jobs.')
    .argument('<build>', 'pipeline#number, or pipeline for its newest build')
    .action((text: string) => show(context, text));
  builds
    .command('cancel')
    .description('Cancels a build; one that is over stays as it is.')
    .argument('<build>', 'pipeline#number, or pipeline for its newest build')
    .action((text: string) => cancel(context, text));
}

async function list(context: CliContext, pipeline: string | null): Promise<void> {
  const server = await requireServer(context.config);
  const org = context.config.organization;
  const pipelines = pipeline === null ? await listPipelines(server, org, mostPipelines) : [{ slug: pipeline }];
  const pages = await Promise.all(
    pipelines.map(({ slug }) => newestBuilds(server, { org, pipeline: slug }, shownBuilds)),
  );
  const all = pages
    .flat()
    .toSorted((a, b) => b.created_at.localeCompare(a.created_at))
    .slice(0, shownBuilds);
  const lines = all.map((build) => `${lineOf(build)}\n`);
  print(context, { data: all }, lines.join('') || 'no builds yet; `caisson run` makes one\n');
}

function lineOf(build: Build): string {
  const id = `${build.pipeline_slug}#${build.number}`.padEnd(24);
  const when = build.created_at.slice(0, 19).replace('T', ' ');
  return `${id} ${build.state.padEnd(10)} ${when}  ${durationOf(build).padStart(8)}  ${build.branch ?? ''}`;
}

async function show(context: CliContext, text: string): Promise<void> {
  const server = await requireServer(context.config);
  const ref = await readBuildRef(server, context.config.organization, text);
  const build = await readBuild(server, ref);
  const { data: jobs } = await listJobs(server, ref);
  print(context, { build, jobs }, describe(build, jobs, context.hasColors));
}

function describe(build: Build, jobs: readonly Job[], hasColors: boolean): string {
  const colors = picocolors.createColors(hasColors);
  const width = Math.max(0, ...jobs.map((job) => nameOf(job).length));
  const rows = jobs.map((job) => {
    const reason = reasonOf(job);
    const tail = reason === null || job.state === 'passed' ? '' : `  ${reason}`;
    return `  ${markOf(job, colors)} ${nameOf(job).padEnd(width)}  ${noteOf(job, Date.now())}${tail}\n`;
  });
  const error = build.error_code === null ? '' : `  ${build.error_code}: ${build.error_message}\n`;
  return `${lineOf(build)}\n${error}${rows.join('')}${jobs.length > 0 ? `${countsOf(jobs)}\n` : ''}`;
}

async function cancel(context: CliContext, text: string): Promise<void> {
  const server = await requireServer(context.config);
  const ref = await readBuildRef(server, context.config.organization, text);
  const build = await cancelBuild(server, ref);
  print(context, { build }, `${ref.pipeline}#${ref.number} is ${build.state}\n`);
}
