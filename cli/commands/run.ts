import { stat } from 'node:fs/promises';
import { isAbsolute, relative, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasCode, messageOf } from '@caisson/contracts/app-error';
import { findPipelineFiles } from '@caisson/pipeline/render/find-pipeline-files';
import { readConfig } from '@caisson/server/config';
import type { Command } from 'commander';
import { type Build, type BuildRef, cancelBuild, createBuild, createPipeline } from '../build-requests.ts';
import { CliError, usageError } from '../cli-error.ts';
import { withDriver } from '../config.ts';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../exit-codes.ts';
import { type BuildView, followBuild } from '../follow-build.ts';
import { type GitFacts, pipelineNameOf, readGitFacts } from '../git-facts.ts';
import { aborted, onStop, type Stops } from '../on-stop.ts';
import { connectTo, findServer, type OpenServer } from '../open-server.ts';
import { collect, driverOption } from '../options.ts';
import { print } from '../print.ts';
import { makeProgress } from '../progress.ts';
import { showJson } from '../show-json.ts';
import { showLive } from '../show-live.ts';
import { showPlain } from '../show-plain.ts';
import { packSource } from '../source-archive.ts';
import { uploadSource } from '../upload-source.ts';

interface RunOptions {
  readonly dir: string;
  readonly env?: readonly string[];
  readonly logs?: boolean;
  readonly keepGoing?: boolean;
  readonly message?: string;
  readonly branch?: string;
  readonly driver?: string;
}

const cancelWaitMs = 20_000;

/** `caisson run`: builds the working tree as it is. */
export function registerRun(program: Command, context: CliContext): void {
  program
    .command('run')
    .summary('build the working tree')
    .description(
      'Packs the working tree (what git would see), renders its pipeline in a capsule, runs the build and shows it live.\nUses the Caisson that runs on this machine or the one in CAISSON_URL; otherwise it runs one for as long as the build takes.',
    )
    .argument('[dir-or-pipeline]', 'a folder, or the slug of a pipeline of the current one', '.')
    .option('-d, --dir <dir>', 'the folder, when the argument is a pipeline', '.')
    .option('-e, --env <NAME=value>', 'environment for every job; may be repeated', collect)
    .option('-l, --logs', 'show the output of every job, not only of those that fail')
    .option('-k, --keep-going', 'after a failure go on with what does not depend on it')
    .option('-m, --message <text>', "the build's message instead of the last commit's")
    .option('-b, --branch <name>', 'the branch to build as')
    .addOption(driverOption)
    .action((target: string, options: RunOptions) => run(context, target, options));
}

async function run(context: CliContext, target: string, options: RunOptions): Promise<void> {
  const env = readEnv(options.env);
  const { folder, slug } = await readTarget(target, options.dir);
  checkPipelineFiles(folder);
  const stops = onStop();
  const { say: progress, done } = makeProgress(context);
  const { dataDir } = readConfig(context.config.environment);
  // Packed and read while the server starts.
  const archive = packSource(folder, { exclude: isInside(dataDir, folder) ? [dataDir] : [] });
  const reading = readGitFacts(folder);
  const server = await openServer(context, { progress, stops, driver: options.driver });
  try {
    const facts = await reading;
    const { organization: org } = context.config;
    const [source, pipeline] = await Promise.all([
      uploadSource(server, context.config, archive),
      ensurePipeline(server, org, { name: slug ?? pipelineNameOf(folder), facts }),
    ]);
    for (const warning of source.warnings) progress(`warning: ${warning}`);
    progress('rendering the pipeline');
    const ref = await startBuild(server, { org, pipeline, facts, slug, env, options, digest: source.digest });
    done();
    print(context, { kind: 'build_accepted', build: ref }, `${ref.pipeline} #${ref.number}\n`);
    const build = await watchBuild(context, server, { ref, stops, logs: options.logs === true });
    context.exit(exitCodeOf(build, stops.first.aborted));
  } finally {
    done();
    await server.close();
    stops.release();
  }
}

async function readTarget(target: string, dir: string): Promise<{ folder: string; slug: string | null }> {
  if (await isFolder(target)) return { folder: resolve(target), slug: null };
  if (/^[a-z][a-z0-9-]{0,63}$/.test(target)) {
    if (await isFolder(dir)) return { folder: resolve(dir), slug: target };
    throw usageError(`${dir} is not a folder`);
  }
  throw usageError(`${target} is neither a folder nor the slug of a pipeline`);
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Whoever is in the wrong folder hears it before anything is started for it. */
function checkPipelineFiles(folder: string): void {
  try {
    findPipelineFiles(folder);
  } catch (error) {
    throw new CliError(messageOf(error), { exitCode: exitCodes.invalidPipeline, code: 'pipeline_invalid' });
  }
}

function readEnv(pairs: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const end = pair.indexOf('=');
      if (end > 0) return [pair.slice(0, end), pair.slice(end + 1)];
      throw usageError(`--env ${pair}: it must be NAME=value`);
    }),
  );
}

function isInside(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== '' && !way.startsWith('..') && !isAbsolute(way);
}

/** The Caisson that is there, else one in this process for as long as the build takes. */
async function openServer(
  context: CliContext,
  { progress, stops, driver }: { progress: (line: string) => void; stops: Stops; driver: string | undefined },
): Promise<OpenServer> {
  const found = await findServer(context.config);
  if (found !== null && driver === undefined) return found;
  if (found !== null) {
    throw usageError('a Caisson runs already, with a driver of its own; --driver is for one that starts');
  }
  const { startLocal } = await import('../start-local.ts');
  const config = { ...readConfig(context.config.environment), port: 0 };
  const local = await startLocal({
    config,
    cli: withDriver(context.config, driver),
    progress,
    hosts: [],
    isBrief: true,
    signal: stops.first,
  });
  return { ...connectTo(local.url, local.token), close: () => local.close({ end: true }) };
}

interface StartInput {
  readonly org: string;
  readonly pipeline: string;
  readonly facts: GitFacts;
  readonly slug: string | null;
  readonly env: Record<string, string>;
  readonly options: RunOptions;
  readonly digest: string;
}

async function startBuild(server: OpenServer, input: StartInput): Promise<BuildRef> {
  const { org, pipeline, facts, slug, env, options, digest } = input;
  const body = {
    branch: options.branch ?? facts.branch,
    commit: facts.commit,
    message: options.message ?? facts.message,
    env,
    source_digest: digest,
    stop_on_failure: options.keepGoing !== true,
    ...(slug === null ? {} : { source_slug: slug }),
  };
  const { number } = await createBuild(server, { org, pipeline }, body);
  return { org, pipeline, number };
}

async function ensurePipeline(
  server: OpenServer,
  org: string,
  { name, facts }: { name: string; facts: GitFacts },
): Promise<string> {
  const { slugOf } = await import('@caisson/contracts/ci/slugs');
  const body = { name, repository: facts.repository, default_branch: facts.branch };
  try {
    return (await createPipeline(server, org, body)).slug;
  } catch (error) {
    if (hasCode(error, 'pipeline_slug_taken')) return slugOf(name);
    throw error;
  }
}

async function watchBuild(
  context: CliContext,
  server: OpenServer,
  { ref, stops, logs }: { ref: BuildRef; stops: Stops; logs: boolean },
): Promise<Build> {
  const watching = new AbortController();
  void aborted(stops.first).then(async () => {
    if (!context.json) context.stderr.write('canceling; Ctrl-C again leaves at once\n');
    await cancelBuild(server, ref).catch(() => {});
    await Promise.race([aborted(stops.second), delay(cancelWaitMs, undefined, { ref: false })]);
    watching.abort();
  });
  const view = chooseView(context);
  return followBuild(server, ref, { view, logsOf: logs ? 'all' : 'failed', signal: watching.signal });
}

function chooseView({ json, stdout, hasColors, terminal }: CliContext): BuildView {
  const write = (text: string) => void stdout.write(text);
  if (json) return showJson(write);
  return terminal === null ? showPlain({ write, hasColors }) : showLive({ write, hasColors, size: terminal });
}

function exitCodeOf({ state }: Build, isStopped: boolean): number {
  if (state === 'passed') return exitCodes.ok;
  return isStopped || state === 'canceled' ? exitCodes.canceled : exitCodes.buildFailed;
}
