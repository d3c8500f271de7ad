import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { repositoryDir } from '../cli/installation.ts';

const run = promisify(execFile);

/** An earlier version of this repository, and why it is of interest. */
export interface OldVersion {
  readonly commit: string;
  readonly title: string;
}

/** The previous commit, and the last one before the newest migration; none where the history is not there. */
export async function oldVersions(): Promise<readonly OldVersion[]> {
  const newest = await git(['log', '-1', '--diff-filter=A', '--format=%h', '--', 'server/migrations']);
  const found: readonly OldVersion[] = [
    { commit: await git(['rev-parse', '--short', '--verify', 'HEAD~1']), title: 'the previous commit' },
    { commit: await git(['rev-parse', '--short', '--verify', `${newest}~1`]), title: 'the last without a migration' },
  ];
  return found.filter(
    ({ commit }, index) => commit !== '' && found.findIndex((one) => one.commit === commit) === index,
  );
}

/** Writes that version into a new directory, with the packages of today. */
export async function checkOut({ commit }: OldVersion): Promise<string> {
  const tree = await mkdtemp(join(tmpdir(), 'caisson-old-'));
  await run('sh', ['-c', `git archive ${commit} | tar -x -C "${tree}"`], { cwd: repositoryDir });
  const modules = join(tree, 'node_modules');
  await mkdir(join(modules, '@caisson'), { recursive: true });
  for (const name of await readdir(join(repositoryDir, 'node_modules'))) {
    if (name !== '@caisson') await symlink(join(repositoryDir, 'node_modules', name), join(modules, name));
  }
  for (const name of await readdir(join(repositoryDir, 'node_modules', '@caisson'))) {
    await symlink(join(tree, name), join(modules, '@caisson', name));
  }
  return tree;
}

/** What git says, or nothing when it refuses. */
async function git(words: readonly string[]): Promise<string> {
  return run('git', [...words], { cwd: repositoryDir }).then(
    ({ stdout }) => stdout.trim(),
    () => '',
  );
}
