import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '@caisson/contracts/app-error';
import { isErrno } from './container-errors.ts';
import { exists } from './exists.ts';

const run = promisify(execFile);

/** How the agent is compiled: small and static for capsules, or watched by sanitizers for tests. */
export type AgentVariant = 'release' | 'sanitized';

interface AgentBuild {
  /** Default `release`. */
  readonly variant?: AgentVariant;
  /** A source file that takes the place of `main.c`, for tests. */
  readonly mainPath?: string;
}

const guestDirectory = join(import.meta.dirname, '..', 'guest');
const warnings = ['-std=c11', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror'];
const flags: Readonly<Record<AgentVariant, readonly string[]>> = {
  release: [
    ...warnings,
    '-Os',
    '-static',
    '-s',
    '-ffunction-sections',
    '-fdata-sections',
    '-fstack-protector-strong',
    // What only a debugger or a C++ exception would read, and space between sections, is a tenth of the program.
    '-fno-asynchronous-unwind-tables',
    '-Wl,--gc-sections',
    '-Wl,-z,noseparate-code',
  ],
  sanitized: [...warnings, '-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'],
};
/** musl gives a static program a tenth the size; its wrapper knows no sanitizers. */
const compilers: Readonly<Record<AgentVariant, readonly string[]>> = {
  release: ['musl-gcc', 'gcc', 'cc'],
  sanitized: ['gcc', 'clang'],
};

/**
 * Path of the agent's binary under `guest/build/`, compiled when sources, flags or compiler are new. Builders at the same time do
 * not disturb one another. `tools_unavailable` when no compiler is installed or it fails.
 */
export async function buildAgent(options: AgentBuild = {}): Promise<string> {
  const variant = options.variant ?? 'release';
  const sources = await readSources(options.mainPath ?? join(guestDirectory, 'main.c'));
  const compiler = await findCompiler(compilers[variant]);
  const digest = digestOf([
    compiler.version,
    ...flags[variant],
    ...sources.flatMap(({ path, text }) => [basename(path), text]),
  ]);
  const buildDirectory = join(guestDirectory, 'build');
  const path = join(buildDirectory, `caisson-agent-${variant}-${digest}`);
  if (await exists(path)) return path;
  await mkdir(buildDirectory, { recursive: true });
  const files = sources.map(({ path }) => path).filter((path) => path.endsWith('.c'));
  await compile(compiler.program, [...flags[variant], ...files], path);
  return path;
}

async function readSources(mainPath: string): Promise<readonly { path: string; text: string }[]> {
  const names = (await readdir(guestDirectory)).filter((name) => /\.[ch]$/.test(name) && name !== 'main.c').sort();
  const paths = [...names.map((name) => join(guestDirectory, name)), mainPath];
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(path, 'utf8') })));
}

async function findCompiler(programs: readonly string[]): Promise<{ program: string; version: string }> {
  for (const program of programs) {
    try {
      const { stdout } = await run(program, ['--version']);
      return { program, version: `${program} ${stdout}` };
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
  throw new AppError(
    'tools_unavailable',
    'The agent that runs inside capsules has to be compiled once, and there is no C compiler: install the Debian packages musl-tools and gcc.',
  );
}

function digestOf(parts: readonly string[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex').slice(0, 16);
}

async function compile(program: string, inputs: readonly string[], path: string): Promise<void> {
  const unfinished = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await run(program, [...inputs, '-o', unfinished]);
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw new AppError('tools_unavailable', `${program} cannot compile the agent in guest/.`, { cause: error });
  }
}
