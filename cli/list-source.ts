import { type Dirent, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { freshIgnoreRules, type IgnoreRules, openIgnoreRules } from './source-ignore.ts';

export interface SourceEntry {
  /** Relative to the packed folder, with slashes. */
  readonly path: string;
  readonly kind: 'file' | 'symlink';
}

interface SourceListing {
  /** Sorted by path. */
  readonly entries: readonly SourceEntry[];
  /** What was left out though no rule says so, and why. */
  readonly warnings: readonly string[];
}

/** Folders that hold the pipeline: packed even where a rule drops them, since nothing can be rendered without. */
const pipelineFolders = ['.caisson', '.hm'];

/**
 * Files and symbolic links below `folder` (absolute) that travel: everything but `.git`, what `.gitignore`, `.git/info/exclude` and
 * `.caissonignore` drop, and the absolute paths in `exclude`. Links are never followed. As in git, directories travel only with
 * what is in them.
 */
export function listSource(folder: string, exclude: readonly string[] = []): SourceListing {
  const { top, rules } = openIgnoreRules(folder);
  const walk: Walk = { folder, prefix: relative(top, folder).split(sep).join('/'), exclude, entries: [], warnings: [] };
  const rest: [string, IgnoreRules][] = [['', rules]];
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    const [directory, inForce] = next;
    for (const child of readEntries(walk, directory)) {
      const path = directory === '' ? child.name : `${directory}/${child.name}`;
      if (child.name === '.git' || exclude.includes(join(folder, path))) continue;
      const fromTop = walk.prefix === '' ? path : `${walk.prefix}/${path}`;
      if (!child.isDirectory()) addEntry(walk, child, { path, dropped: inForce.ignores(fromTop) });
      else if (!inForce.ignores(`${fromTop}/`)) rest.push([path, inForce.enter(fromTop)]);
      else if (pipelineFolders.includes(path)) rest.push([path, freshIgnoreRules(top).enter(fromTop)]);
    }
  }
  walk.entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { entries: walk.entries, warnings: walk.warnings };
}

interface Walk {
  readonly folder: string;
  /** The folder, relative to the top of the ignore rules. */
  readonly prefix: string;
  readonly exclude: readonly string[];
  readonly entries: SourceEntry[];
  readonly warnings: string[];
}

function readEntries(walk: Walk, directory: string): readonly Dirent[] {
  try {
    return readdirSync(join(walk.folder, directory), { withFileTypes: true });
  } catch (error) {
    if (directory === '') throw error;
    walk.warnings.push(`${directory}: left out, it cannot be read (${codeOf(error)})`);
    return [];
  }
}

function addEntry(
  walk: Walk,
  child: Dirent,
  { path, dropped }: { readonly path: string; readonly dropped: boolean },
): void {
  if (dropped) return;
  if (child.isFile()) walk.entries.push({ path, kind: 'file' });
  else if (child.isSymbolicLink()) walk.entries.push({ path, kind: 'symlink' });
  else
    walk.warnings.push(
      `${path}: left out, it is ${child.isSocket() ? 'a socket' : child.isFIFO() ? 'a pipe' : 'a device'}`,
    );
}

/** The system's name for what went wrong, such as `EACCES`. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
