import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type DebianKit, findKit, type KitOptions, type KitRecipe, prepareKit } from './debian-kit.ts';
import { programVersion } from './program-version.ts';

/** gVisor's program as it will be run. */
interface RunscProgram {
  readonly path: string;
  /** As it says itself, e.g. `0.0~20240729.0`. */
  readonly version: string;
}

/** Of the day from which on gVisor keeps and restores memory the way the driver relies on; Debian 12 has one of 2022. */
const oldestDay = 20_240_729;
const installed = 'runsc';

const recipe: KitRecipe = {
  name: 'runsc-trixie-1',
  suite: 'trixie',
  packages: ['runsc'],
  contents: 'gVisor (runsc)',
  user: 'gVisor capsules',
  async finish(rootDir) {
    for (const name of ['dev', 'etc', 'tmp', 'var']) await rm(join(rootDir, name), { recursive: true, force: true });
    return { version: await programVersion([programIn(rootDir)]) };
  },
};

/** The program, fetched first (7 MB from the Debian archive this machine uses) when none is here. Throws `runtime_unavailable`. */
export async function prepareRunsc(options: KitOptions): Promise<RunscProgram> {
  return (await findRunsc(options.kitsDir)) ?? asProgram(await prepareKit(recipe, options));
}

/** The one that is installed, when it is new enough, or the one that was fetched; null when there is neither. */
export async function findRunsc(kitsDir: string): Promise<RunscProgram | null> {
  const version = await programVersion([installed]).catch(() => '');
  if (dayOf(version) >= oldestDay) return { path: installed, version };
  const kit = await findKit(recipe, kitsDir);
  return kit && asProgram(kit);
}

function asProgram({ rootDir, notes }: DebianKit): RunscProgram {
  return { path: programIn(rootDir), version: String(notes.version) };
}

function programIn(rootDir: string): string {
  return join(rootDir, 'usr/bin/runsc');
}

/** Versions are dates, as Debian and gVisor itself write them: `0.0~20240729.0`, `release-20240729.0`. */
function dayOf(version: string): number {
  return Number(/\d{8}/.exec(version)?.[0] ?? 0);
}
