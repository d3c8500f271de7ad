import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import { debianSourceLines } from './image-apt-sources.ts';
import { withFileLock } from './image-lock.ts';
import { aptProgress } from './image-progress.ts';
import { isRecord } from './is-record.ts';
import { runProgram } from './run-program.ts';

/** Programs of one Debian release, whatever the host has installed: unpacked below a directory, never installed. */
export interface KitRecipe {
  /** The kit's directory; changes with everything a kit is made of. */
  readonly name: string;
  readonly suite: string;
  readonly packages: readonly string[];
  /** For people: what is fetched, e.g. `QEMU and a guest kernel`, and who needs it, e.g. `micro-virtual machines`. */
  readonly contents: string;
  readonly user: string;
  /** Makes the unpacked packages usable; what it returns, versions above all, is kept with the kit. */
  readonly finish: (rootDir: string) => Promise<Readonly<Record<string, string>>>;
}

export interface KitOptions {
  /** Kits are kept below this directory. */
  readonly kitsDir: string;
  /** Where this machine's package manager says what archives it uses. Default `/etc/apt`. */
  readonly aptDir?: string;
  readonly progress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface DebianKit {
  readonly rootDir: string;
  /** What `finish` said when the kit was made. */
  readonly notes: Readonly<Record<string, unknown>>;
}

const buildTimeoutMs = 20 * 60_000;

/** The kit, or null when it was not fetched yet. */
export async function findKit({ name }: Pick<KitRecipe, 'name'>, kitsDir: string): Promise<DebianKit | null> {
  const kitDir = join(kitsDir, name);
  const text = await readFile(join(kitDir, 'kit.json'), 'utf8').catch(() => null);
  const notes: unknown = text === null ? null : JSON.parse(text);
  return isRecord(notes) ? { rootDir: join(kitDir, 'root'), notes } : null;
}

/** The kit, fetched first from the Debian archive this machine uses when it is not here. Throws `runtime_unavailable`. */
export async function prepareKit(recipe: KitRecipe, options: KitOptions): Promise<DebianKit> {
  const { kitsDir } = options;
  const known = await findKit(recipe, kitsDir);
  if (known !== null) return known;
  await mkdir(kitsDir, { recursive: true });
  const signal = options.signal ?? new AbortController().signal;
  return withFileLock(join(kitsDir, 'lock'), signal, async () => {
    if ((await findKit(recipe, kitsDir)) === null) await makeKit(recipe, { ...options, signal });
    const made = await findKit(recipe, kitsDir);
    if (made !== null) return made;
    throw new AppError('runtime_unavailable', `the kit in ${kitsDir} is incomplete; remove it`);
  });
}

async function makeKit(recipe: KitRecipe, options: KitOptions): Promise<void> {
  const kitDir = join(options.kitsDir, recipe.name);
  const draftDir = `${kitDir}.new`;
  const rootDir = join(draftDir, 'root');
  await rm(draftDir, { recursive: true, force: true });
  await mkdir(draftDir);
  await extractPackages(recipe, rootDir, options);
  const notes = await recipe.finish(rootDir);
  await writeFile(join(draftDir, 'kit.json'), `${JSON.stringify(notes)}\n`);
  await rename(draftDir, kitDir);
}

async function extractPackages(
  { suite, packages, contents, user }: KitRecipe,
  rootDir: string,
  { aptDir = '/etc/apt', progress = () => {}, signal }: KitOptions,
): Promise<void> {
  const lines = await debianSourceLines(aptDir, suite);
  if (lines.length === 0) {
    throw new AppError(
      'runtime_unavailable',
      `${user} need ${contents} from Debian packages, and this machine’s apt sources name no Debian archive`,
    );
  }
  const report = aptProgress({ title: `fetching ${contents}`, progress });
  const argv = [
    ...['unshare', '--pid', '--fork', '--kill-child', '--'],
    ...['mmdebstrap', '--mode=root', '--variant=extract', '--format=directory', '--verbose', '--skip=check/qemu'],
    ...['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*'].map((path) => `--dpkgopt=path-exclude=${path}`),
    `--include=${packages.join(',')}`,
    ...[suite, rootDir, ...lines],
  ];
  try {
    await runProgram(argv, { timeoutMs: buildTimeoutMs, onLine: report.onLine, ...(signal ? { signal } : {}) });
  } catch (cause) {
    const advice = 'see whether "apt-get update" works here and mmdebstrap is installed';
    throw new AppError('runtime_unavailable', `${contents} could not be fetched (${advice}): ${messageOf(cause)}`, {
      cause,
    });
  } finally {
    report.stop();
  }
}
