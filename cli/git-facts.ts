import { execFile } from 'node:child_process';
import { basename, resolve } from 'node:path';
import { promisify } from 'node:util';

/** What a build says of its source. */
export interface GitFacts {
  readonly branch: string;
  /** Forty zeros when there is none. */
  readonly commit: string;
  readonly message: string | null;
  /** Clone URL, or the folder's path. */
  readonly repository: string;
}

const noCommit = '0'.repeat(40);

/** Facts of the git repository around `folder`; every one has a stand-in, so no git and no commit is fine. */
export async function readGitFacts(folder: string): Promise<GitFacts> {
  const [branch, last, remote] = await Promise.all([
    git(folder, ['symbolic-ref', '--short', '-q', 'HEAD']),
    git(folder, ['log', '-1', '--format=%H %s']),
    git(folder, ['remote', 'get-url', 'origin']),
  ]);
  const [commit = noCommit, ...message] = last?.split(' ') ?? [];
  return {
    branch: branch ?? 'main',
    commit,
    message: message.join(' ') || null,
    repository: remote ?? `file://${resolve(folder)}`,
  };
}

/** Name for a folder's pipeline: the folder's own. */
export function pipelineNameOf(folder: string): string {
  return basename(resolve(folder));
}

async function git(folder: string, words: readonly string[]): Promise<string | null> {
  const run = promisify(execFile)('git', ['-C', folder, ...words], { timeout: 5_000 });
  return run.then(
    ({ stdout }) => stdout.trim() || null,
    () => null,
  );
}
