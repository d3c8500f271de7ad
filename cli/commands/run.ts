import { stat } from 'node:fs/promises';
import { isAbsolute, relative, resolve } from 'node:path';
import { hasCode } from '@caisson/contracts/app-error';
import { readConfig } from '@caisson/server/config';
import type { Command } from 'commander';
import { ask } from '../ask.ts';
import { CliError } from '../cli-error.ts';
import { withDriver } from '../config.ts';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../exit-codes.ts';
import { type Build, type BuildRef, type BuildView, followBuild } from '../follow-build.ts';
import { type GitFacts, pipelineNameOf, readGitFacts } from '../git-facts.ts';
import { onStop, type Stops } from '../on-stop.ts';
import { connectTo, findServer, type OpenServer } from '../open-server.ts';
import { makeProgress } from '../progress.ts';
import { showJson } from '../show-json.ts';
import { showLive } from '../show-live.ts';
import { showPlain } from '../show-plain.ts';
import { packSource } from '../source-archive.ts';
import { uploadSource } from '../upload-source.ts';

interface RunOptions {
  readonly dir: string;
  readonly env: readonly string[];
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
    .option('-e, --env <NAME=value>', 'environment for every job; may be repeated', collect, [])
    .option('-l, --logs', 'show the output of every job, not only of those that fail')
    .option('-k, --keep-going', 'after a failure go on with what does not depend on it')
    .option('-m, --message <text>', "the build's message instead of the last commit's")
    .option('-b, --branch <name>', 'the branch to build as')
    .option('--driver <which>', 'what runs capsules: auto, container or microvm (or CAISSON_DRIVER)')
    .action((target: string, options: RunOptions) => run(context, target, options));
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

async function run(context: CliContext, target: string, options: RunOptions): Promise<void> {
  const env = readEnv(options.env);
  const { folder, slug } = await readTarget(target, options.dir);
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
    const ref = await startBuild(context, server, { org, pipeline, facts, slug, env, options, digest: source.digest });
    done();
    if (!context.json) context.stdout.write(`${ref.pipeline} #${ref.number}\n`);
    const build = await watchBuild(context, server, { ref, stops, logs: options.logs === true });
    context.exit(exitCodeOf(build, await stoppedBy(stops)));
  } finally {
    done();
    await server.close();
    stops.release();
  }
}

async function readTarget(target: string, dir: string): Promise<{ folder: string; slug: string | null }> {
  const isFolder = await stat(target).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) return { folder: resolve(target), slug: null };
  if (/^[a-z][a-z0-9-]{0,63}$/.test(target)) return { folder: resolve(dir), slug: target };
  throw new CliError(`${target} is neither a folder nor the slug of a pipeline`, {
    exitCode: exitCodes.usage,
    code: 'usage',
  });
}

function readEnv(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const end = pair.indexOf('=');
      if (end > 0) return [pair.slice(0, end), pair.slice(end + 1)];
      throw new CliError(`--env ${pair}: it must be NAME=value`, { exitCode: exitCodes.usage, code: 'usage' });
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
    throw new CliError('a Caisson runs already, with a driver of its own; --driver is for one that starts', {
      exitCode: exitCodes.usage,
      code: 'usage',
    });
  }
  const { startLocal } = await import('../start-local.ts');
  const preparing = new AbortController();
  void stops.first.then(() => preparing.abort());
  const config = { ...readConfig(context.config.environment), port: 0 };
  const local = await startLocal({
    config,
    cli: withDriver(context.config, driver),
    progress,
    hosts: [],
    isBrief: true,
    signal: preparing.signal,
  });
  return { ...connectTo(local.url, local.token, local.logPath), close: () => local.close({ end: true }) };
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

async function startBuild(context: CliContext, server: OpenServer, input: StartInput): Promise<BuildRef> {
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
  const path = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds';
  const build = await ask(server.client.POST(path, { params: { path: { org, pipeline } }, body }));
  if (context.json) {
    context.stdout.write(
      `${JSON.stringify({ kind: 'build_accepted', build: { org, pipeline, number: build.number } })}\n`,
    );
  }
  return { org, pipeline, number: build.number };
}

async function ensurePipeline(
  { client }: OpenServer,
  org: string,
  { name, facts }: { name: string; facts: GitFacts },
): Promise<string> {
  const { slugOf } = await import('@caisson/contracts/ci/slugs');
  const body = { name, repository: facts.repository, default_branch: facts.branch };
  try {
    return (await ask(client.POST('/api/v0/organizations/{org}/pipelines', { params: { path: { org } }, body }))).slug;
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
  void stops.first.then(async () => {
    if (!context.json) context.stderr.write('canceling; Ctrl-C again leaves at once\n');
    await cancel(server, ref).catch(() => {});
    await Promise.race([stops.second, new Promise((resolve) => setTimeout(resolve, cancelWaitMs).unref())]);
    watching.abort();
  });
  const view = chooseView(context);
  return followBuild(server, ref, { view, logsOf: logs ? 'all' : 'failed', signal: watching.signal });
}

async function cancel({ client }: OpenServer, { org, pipeline, number }: BuildRef): Promise<void> {
  const path = '/api/v0/organizations/{org}/pipelines/{pipeline}/builds/{number}/cancel';
  await ask(client.PUT(path, { params: { path: { org, pipeline, number } } }));
}

function chooseView({ json, stdout, hasColors, terminal }: CliContext): BuildView {
  const write = (text: string) => void stdout.write(text);
  if (json) return showJson(write);
  return terminal === null ? showPlain({ write, hasColors }) : showLive({ write, hasColors, size: terminal });
}

async function stoppedBy({ first }: Stops): Promise<boolean> {
  return Promise.race([first.then(() => true), Promise.resolve(false)]);
}

function exitCodeOf({ state }: Build, isStopped: boolean): number {
  if (state === 'passed') return exitCodes.ok;
  return isStopped || state === 'canceled' ? exitCodes.canceled : exitCodes.buildFailed;
}
