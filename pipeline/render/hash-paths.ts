import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  constants,
  globSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { join, relative, sep } from 'node:path';
import type { PathHash } from '../cache-key.ts';

const maxBytes = 4 * 1024 ** 3;
const maxFiles = 100_000;

interface Budget {
  bytes: number;
  files: number;
}

/**
 * Hashes what `onChange` names: files, directories (links in them count by their target's name and are not followed) and globs
 * (files only). What is missing is left out and reported to `warn`. Throws when a path leads out of the repository, loops, is no
 * file or directory, or when more than 4 GiB or 100,000 files would be read.
 */
export function hashPathsOf(workspace: string, warn: (message: string) => void) {
  const root = realpathSync(workspace);
  const budget: Budget = { bytes: 0, files: 0 };
  return (patterns: readonly string[]): readonly PathHash[] => {
    const paths = new Set(patterns.flatMap((pattern) => expand(root, pattern)));
    for (const pattern of patterns) {
      if (expand(root, pattern).length === 0) warn(`onChange("${pattern}") matches nothing; it does not count.`);
    }
    return [...paths].map((path) => ({ path, hash: hashPath(root, path, budget) }));
  };
}

function expand(root: string, pattern: string): readonly string[] {
  if (statOf(root, pattern) !== undefined) return [pattern];
  if (!/[*?[{]/.test(pattern)) return [];
  const found = globSync(pattern, { cwd: root, exclude: (name) => name === '.git' });
  return found.map((path) => path.split(sep).join('/')).filter((path) => statOf(root, path)?.isFile() === true);
}

function hashPath(root: string, path: string, budget: Budget): string {
  const absolute = realpathSync(join(root, path));
  if (absolute !== root && !absolute.startsWith(root + sep))
    throw new Error(`onChange("${path}") leads out of the repository.`);
  const found = statSync(absolute);
  const hash = createHash('sha256');
  if (found.isDirectory()) addDirectory(hash, { directory: absolute, path, budget });
  else if (found.isFile()) addFile(hash, { file: absolute, path, budget });
  else throw new Error(`onChange("${path}") is neither a file nor a directory.`);
  return hash.digest('hex');
}

function addDirectory(
  hash: Hash,
  of: { readonly directory: string; readonly path: string; readonly budget: Budget },
): void {
  const entries = readdirSync(of.directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() || entry.isSymbolicLink())
    .map((entry) => ({ entry, name: relative(of.directory, join(entry.parentPath, entry.name)).split(sep).join('/') }))
    .filter(({ name }) => !name.split('/').includes('.git'))
    .sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  for (const { entry, name } of entries) {
    const file = join(of.directory, name);
    hash.update(`${name}\0`);
    if (entry.isSymbolicLink()) hash.update(readlinkSync(file));
    else addFile(hash, { file, path: of.path, budget: of.budget });
    hash.update('\0');
  }
}

function addFile(hash: Hash, of: { readonly file: string; readonly path: string; readonly budget: Budget }): void {
  const { budget, path } = of;
  budget.files += 1;
  if (budget.files > maxFiles)
    throw new Error(`onChange("${path}") names too many files: more than ${maxFiles} in all. Name fewer.`);
  const descriptor = openSync(of.file, constants.O_RDONLY | constants.O_NONBLOCK);
  const chunk = Buffer.allocUnsafe(1024 * 1024);
  try {
    for (let size = readSync(descriptor, chunk); size > 0; size = readSync(descriptor, chunk)) {
      budget.bytes += size;
      if (budget.bytes > maxBytes)
        throw new Error(`onChange("${path}") is too much to read: more than 4 GiB in all. Name fewer files.`);
      hash.update(chunk.subarray(0, size));
    }
  } finally {
    closeSync(descriptor);
  }
}

function statOf(root: string, path: string) {
  try {
    return statSync(join(root, path));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG') return undefined;
    throw new Error(
      `onChange("${path}") cannot be read: ${code === 'ELOOP' ? 'it is a loop of symbolic links' : String(error)}.`,
    );
  }
}
