/**
 * `owner/name` of a repository: the last two parts of its clone URL without scheme, user, host and `.git`. Null when there are no
 * two, as for a local directory with a short path.
 */
export function repoNameOf(cloneUrl: string): string | null {
  const path = cloneUrl
    .trim()
    .replace(/[?#].*$/s, '')
    .replace(/^[a-z][a-z0-9+.-]*:\/\/[^/]*/i, '')
    .replace(/^[^/:]*@[^/:]+:/, '')
    .replace(/\/+$/, '')
    .replace(/\.git$/, '');
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .slice(-2);
  return parts.length === 2 ? parts.join('/') : null;
}
