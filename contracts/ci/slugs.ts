/**
 * Slug of a pipeline or organization: the name in lower case, every run of anything but `a`–`z` and digits turned into one `-`, none
 * at the ends. Empty when nothing is left, which no caller may store.
 */
export function slugOf(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}
