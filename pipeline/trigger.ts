/** What starts a pipeline by itself, as it stands in the registry envelope. */
export type Trigger =
  | { readonly event: 'push'; readonly branches: readonly string[] }
  | { readonly event: 'push'; readonly tags: readonly string[] }
  | {
      readonly event: 'pull_request';
      readonly branches: readonly string[];
      readonly types: readonly PullRequestType[];
    };

export type PullRequestType = 'opened' | 'synchronize' | 'reopened' | 'closed' | 'ready_for_review';

const pullRequestTypes: readonly string[] = ['opened', 'synchronize', 'reopened', 'closed', 'ready_for_review'];

/** Starts on a push to a branch or of a tag that fits a glob (`*` any run of characters, `?` one). Exactly one of the two. */
export function push(on: {
  readonly branch?: string | readonly string[];
  readonly tag?: string | readonly string[];
}): Trigger {
  if ((on?.branch === undefined) === (on?.tag === undefined)) {
    throw new Error('push(): give exactly one of branch and tag, as in push({ branch: "main" }).');
  }
  return on.branch === undefined
    ? { event: 'push', tags: readGlobs(on.tag, 'push(): tag') }
    : { event: 'push', branches: readGlobs(on.branch, 'push(): branch') };
}

/** Starts on pull requests: into any branch, or one that fits a glob; when opened, updated or reopened unless `types` says else. */
export function pullRequest(
  on: { readonly branches?: string | readonly string[]; readonly types?: readonly PullRequestType[] } = {},
): Trigger {
  const types = on.types ?? ['opened', 'synchronize', 'reopened'];
  for (const type of types) {
    if (!pullRequestTypes.includes(type)) {
      throw new Error(`pullRequest(): ${JSON.stringify(type)} is not a type. Known: ${pullRequestTypes.join(', ')}.`);
    }
  }
  const branches = on.branches === undefined ? [] : [on.branches].flat();
  return {
    event: 'pull_request',
    branches: branches.length === 0 ? [] : readGlobs(branches, 'pullRequest(): branches'),
    types: [...types],
  };
}

function readGlobs(globs: string | readonly string[] | undefined, what: string): readonly string[] {
  const list = globs === undefined ? [] : [globs].flat();
  if (list.length === 0 || list.some((glob) => typeof glob !== 'string' || glob === '')) {
    throw new Error(`${what} takes one or more non-empty globs.`);
  }
  return list;
}
