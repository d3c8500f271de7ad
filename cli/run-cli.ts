import { WriteStream } from 'node:tty';
import { Command } from 'commander';
import type { CliConfig } from './config.ts';
import type { CliContext, RegisterCommand } from './context.ts';
import { exitCodes } from './exit-codes.ts';
import { readFailure } from './failure.ts';
import { readVersion } from './version.ts';

/** Every command and where it lives. Only the one that is asked for is loaded, which keeps the others' weight out of it. */
const commands: Readonly<Record<string, () => Promise<RegisterCommand>>> = {
  builds: async () => (await import('./commands/builds.ts')).registerBuilds,
  doctor: async () => (await import('./commands/doctor.ts')).registerDoctor,
  host: async () => (await import('./commands/host.ts')).registerHost,
  logs: async () => (await import('./commands/logs.ts')).registerLogs,
  pipelines: async () => (await import('./commands/render.ts')).registerPipelines,
  render: async () => (await import('./commands/render.ts')).registerRender,
  run: async () => (await import('./commands/run.ts')).registerRun,
  up: async () => (await import('./commands/up.ts')).registerUp,
  version: async () => (await import('./commands/version.ts')).registerVersion,
};

interface CliRequest {
  /** The words after `caisson`. */
  readonly words: readonly string[];
  readonly config: CliConfig;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

/** Runs one command line to its end and returns the exit code; every error is printed here and nowhere else. */
export async function runCli({ words, config, stdout, stderr }: CliRequest): Promise<number> {
  const name = words.find((word) => !word.startsWith('-')) ?? '';
  let exitCode: number = exitCodes.ok;
  const exit = (code: number) => {
    exitCode = code;
  };
  const terminal = terminalOf(stdout);
  const hasColors = terminal !== null && config.hasColors && !words.includes('--no-color');
  const context = { config, json: words.includes('--json'), hasColors, terminal, stdout, stderr, exit };
  const program = createProgram(context);
  try {
    const known = commands[name];
    for (const load of known ? [known] : Object.values(commands)) (await load())(program, context);
    if (words.length === 0) program.outputHelp();
    else await program.parseAsync(words, { from: 'user' });
    return exitCode;
  } catch (error) {
    return report(error, { ...context, path: pathOf(program, words) });
  }
}

function terminalOf(stream: NodeJS.WritableStream): CliContext['terminal'] {
  if (!(stream instanceof WriteStream)) return null;
  return () => ({ rows: stream.rows, columns: stream.columns });
}

function createProgram({ stdout }: CliContext): Command {
  const program = new Command('caisson')
    .description('Runs pipelines in isolated capsules that fork from each other.')
    .version(readVersion(), '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show help')
    .option('--json', 'print JSON for programs')
    .option('--no-color', 'print without colors')
    .showSuggestionAfterError(true)
    .configureHelp({ showGlobalOptions: true })
    .helpCommand('help [command]', 'show help for a command')
    .exitOverride()
    .configureOutput({ writeOut: (text) => stdout.write(text), writeErr: () => {}, outputError: () => {} });
  return program;
}

/** The command that the words name, as far as there is one: `builds show`. */
function pathOf(program: Command, words: readonly string[]): string {
  const path: string[] = [];
  let at: Command | undefined = program;
  for (const word of words.filter((each) => !each.startsWith('-'))) {
    at = at.commands.find((command) => command.name() === word);
    if (at === undefined) break;
    path.push(word);
  }
  return path.join(' ');
}

async function report(error: unknown, { path, ...context }: CliContext & { path: string }): Promise<number> {
  const failure = await readFailure(error, path);
  if (!failure) return exitCodes.ok;
  const { code, message, hint, exitCode } = failure;
  if (context.json) {
    context.stdout.write(`${JSON.stringify({ error: { code, message, ...(hint ? { hint } : {}) } })}\n`);
  } else {
    context.stderr.write(`error: ${message}\n${hint ? `${hint}\n` : ''}`);
  }
  if (context.config.debug && error instanceof Error) context.stderr.write(`${error.stack}\n`);
  return exitCode;
}
