import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import ignore, { type Ignore } from 'ignore';

/** The ignore rules in force in one directory. Paths are relative to the top: the git working tree, or the packed folder. */
export interface IgnoreRules {
  readonly ignores: (path: string) => boolean;
  /** The rules one directory further down, with what its own files add. `path` is relative to the top. */
  readonly enter: (path: string) => IgnoreRules;
}

/** Later files win over earlier ones in the same directory, so `.caissonignore` can bring back what `.gitignore` drops. */
const ignoreFiles = ['.gitignore', '.caissonignore'];

/**
 * The rules in force in `folder`, an absolute path, and the top they are relative to. A folder that its repository drops stands for
 * itself: who packs it means what is in it.
 */
export function openIgnoreRules(folder: string): { readonly top: string; readonly rules: IgnoreRules } {
  const top = findWorkingTree(folder) ?? folder;
  const base = ignore({ ignorecase: false }).add(readText(excludeFileOf(top)));
  const down = relative(top, folder).split(sep).filter(Boolean);
  let rules = rulesOf(top, base).enter('');
  for (const index of down.keys()) {
    const path = down.slice(0, index + 1).join('/');
    if (rules.ignores(`${path}/`)) return { top: folder, rules: freshIgnoreRules(folder).enter('') };
    rules = rules.enter(path);
  }
  return { top, rules };
}

/** The rules of a directory that is packed although its parents' rules drop it. */
export function freshIgnoreRules(top: string): IgnoreRules {
  return rulesOf(top, ignore({ ignorecase: false }));
}

function rulesOf(top: string, matcher: Ignore): IgnoreRules {
  return {
    ignores: (path) => matcher.ignores(path),
    enter: (path) => {
      const lines = ignoreFiles.flatMap((name) => readText(join(top, path, name)).split(/\r?\n/));
      const patterns = lines.flatMap((line) => rebase(line, path));
      if (patterns.length === 0) return rulesOf(top, matcher);
      return rulesOf(top, ignore({ ignorecase: false }).add(matcher).add(patterns));
    },
  };
}

/** A pattern of the directory `base` as a pattern of the top. */
function rebase(line: string, base: string): readonly string[] {
  if (line.trim() === '' || line.startsWith('#')) return [];
  if (base === '') return [line];
  const negative = line.startsWith('!');
  const pattern = negative ? line.slice(1) : line;
  const anchored = pattern.trimEnd().slice(0, -1).includes('/');
  const place = base.replace(/[\\*?[\]#! ]/g, '\\$&');
  return [`${negative ? '!' : ''}/${place}/${anchored ? pattern.replace(/^\//, '') : `**/${pattern}`}`];
}

function findWorkingTree(folder: string): string | undefined {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, '.git'))) return at;
    if (dirname(at) === at) return undefined;
  }
}

/** `info/exclude` of the repository; a linked working tree keeps it with the main one. */
function excludeFileOf(top: string): string {
  const dotGit = join(top, '.git');
  if (statSync(dotGit, { throwIfNoEntry: false })?.isFile() !== true) return join(dotGit, 'info', 'exclude');
  const gitFolder = resolve(
    top,
    readText(dotGit)
      .replace(/^gitdir:\s*/, '')
      .trim(),
  );
  const shared = readText(join(gitFolder, 'commondir')).trim();
  return join(resolve(gitFolder, shared), 'info', 'exclude');
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
