import { createHash } from 'node:crypto';
import { lstat, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { aboveFloor } from './disk-floor.ts';
import { imageTooLarge, isDiskFull } from './disk-full.ts';
import { diskRoom } from './disk-room.ts';
import { debianSourceLines } from './image-apt-sources.ts';
import { certificateHooks, type LocalCertificates } from './image-certificates.ts';
import { shiftOwners } from './image-owners.ts';
import { aptProgress } from './image-progress.ts';
import { ProgramError, runProgram } from './run-program.ts';

/** A Debian root filesystem that is built here from packages. */
export interface DebianRecipe {
  readonly name: string;
  readonly suite: string;
  readonly packages: readonly string[];
}

const essentials = ['bash', 'git', 'curl', 'ca-certificates', 'python3', 'make', 'gcc', 'libc6-dev'];
const recipes: readonly DebianRecipe[] = [
  { name: 'minimal', suite: 'bookworm', packages: essentials },
  { name: 'debian:12', suite: 'bookworm', packages: [] },
  { name: 'debian:bookworm', suite: 'bookworm', packages: [] },
  { name: 'debian:13', suite: 'trixie', packages: [] },
  { name: 'debian:trixie', suite: 'trixie', packages: [] },
];

/** The recipe of an image that is built and not pulled; undefined for all other names. */
export function debianRecipe(name: string): DebianRecipe | undefined {
  return recipes.find((recipe) => recipe.name === name);
}

/** Identifies how an image is built: a name built in another way is built anew. */
export function recipeKey({ suite, packages }: DebianRecipe, certificates: LocalCertificates | null): string {
  const trusted = packages.includes('ca-certificates') ? [certificates?.digest ?? null] : [];
  return sha256(JSON.stringify([suite, packages, dpkgOptions, ...trusted]));
}

/** Documentation is no use in a machine nobody sits at, and syncing after every file is none for a tree that is renamed into place. */
const dpkgOptions = [
  'force-unsafe-io',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/lintian/*',
  'path-exclude=/usr/share/locale/*',
];
const buildTimeoutMs = 20 * 60_000;
const leastBytes = 512 * 2 ** 20;
/** What has to stay free while one is built. */
const floorBytes = 64 * 2 ** 20;

export interface DebianBuild {
  readonly recipe: DebianRecipe;
  readonly aptDir: string;
  /** Added to an image with the package ca-certificates. */
  readonly certificates: LocalCertificates | null;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Builds a recipe into the empty directory `rootDir`, owned by capsule ids, and returns the digest of what is in it: the same
 * for the same packages in the same versions. Throws `image_unavailable`, `disk_full`.
 */
export async function buildDebian(build: DebianBuild, rootDir: string): Promise<string> {
  const { recipe } = build;
  // On a full disk apt waits without end for a part of itself.
  if ((await diskRoom(rootDir)).freeBytes < leastBytes) throw imageTooLarge(recipe.name);
  const lines = await debianSourceLines(build.aptDir, recipe.suite);
  const progress = aptProgress({ title: `building image ${recipe.name}`, progress: build.progress });
  try {
    const floor = { directory: rootDir, leastBytes: floorBytes, error: () => imageTooLarge(recipe.name) };
    await aboveFloor(floor, build.signal, (signal) =>
      runProgram(mmdebstrapArgv(build, rootDir, lines), {
        timeoutMs: buildTimeoutMs,
        signal,
        onLine: progress.onLine,
      }),
    );
  } catch (error) {
    throw buildError(recipe, error);
  } finally {
    progress.stop();
  }
  await tidy(rootDir);
  await shiftOwners(rootDir);
  return `sha256:${sha256(recipeKey(recipe, build.certificates) + (await packageVersions(rootDir)))}`;
}

/** In a PID namespace of its own, so that no child of mmdebstrap outlives it when it is stopped or this process is killed. */
function mmdebstrapArgv(
  { recipe, certificates }: DebianBuild,
  rootDir: string,
  sourceLines: readonly string[],
): readonly string[] {
  const include = recipe.packages.length === 0 ? [] : [`--include=${recipe.packages.join(',')}`];
  return [
    ...['unshare', '--pid', '--fork', '--kill-child', '--'],
    ...['mmdebstrap', '--mode=root', '--variant=minbase', '--format=directory', '--verbose', '--skip=check/qemu'],
    // Keeps the usrmerge package out, which would bring all of perl in early and then move the whole tree.
    '--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr',
    ...dpkgOptions.map((option) => `--dpkgopt=${option}`),
    ...include,
    ...(recipe.packages.includes('ca-certificates') ? certificateHooks(certificates) : []),
    recipe.suite,
    rootDir,
    ...sourceLines,
  ];
}

/** Leaves out what belongs to the machine that built it or that every capsule gets from its own runtime. */
async function tidy(rootDir: string): Promise<void> {
  for (const name of ['dev', 'proc', 'sys', 'run', 'tmp']) await emptyDirectory(join(rootDir, name));
  await rm(join(rootDir, 'etc/hostname'), { force: true });
  await rm(join(rootDir, 'etc/resolv.conf'), { force: true });
  await writeFile(join(rootDir, 'etc/resolv.conf'), '', { mode: 0o644 });
}

/** Empties a directory of an image; a symlink in its place is left alone, it could lead anywhere. */
export async function emptyDirectory(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found?.isDirectory()) await runProgram(['find', '-P', path, '-xdev', '-mindepth', '1', '-delete']);
}

async function packageVersions(rootDir: string): Promise<string> {
  const status = await readFile(join(rootDir, 'var/lib/dpkg/status'), 'utf8');
  return (status.match(/^(Package|Version|Architecture): .*$/gm) ?? []).join('\n');
}

function buildError(recipe: DebianRecipe, error: unknown): unknown {
  if (!(error instanceof ProgramError)) return error;
  if (isDiskFull(error)) return imageTooLarge(recipe.name, error);
  const said = `${error.stdout}\n${error.stderr}`
    .split('\n')
    .filter((line) => /^(E|W|Err): ?|^mmdebstrap: /.test(line));
  const detail = said.length === 0 ? error.message : said.slice(-3).join('; ');
  const advice =
    'It is made of Debian packages from the archives in this machine’s apt sources; see whether "apt-get update" works here.';
  return new AppError('image_unavailable', `image ${recipe.name} could not be built: ${detail}. ${advice}`, {
    cause: error,
  });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
