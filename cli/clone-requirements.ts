import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { missing, ok, type Requirement, warning } from '@caisson/host/requirement';

const rootUrl = new URL('../', import.meta.url);
const oldestNode = 24;

/** What `./caisson` installs by itself: Node, npm dependencies, Debian packages. */
export async function cloneRequirements(): Promise<Requirement[]> {
  return [checkNode(), await checkDependencies(), await checkPackages()];
}

function checkNode(): Requirement {
  const major = Number.parseInt(process.versions.node, 10);
  if (major >= oldestNode) return ok('Node.js', `${process.version} (${process.execPath})`);
  return missing('Node.js', `${process.version} is too old`, 'start Caisson through ./caisson, which brings its own');
}

async function checkDependencies(): Promise<Requirement> {
  const [wanted, installed] = await Promise.all(
    ['package-lock.json', 'node_modules/.caisson/package-lock.json'].map((path) =>
      readFile(new URL(path, rootUrl), 'utf8').catch(() => null),
    ),
  );
  if (wanted !== null && wanted === installed) return ok('npm dependencies', 'installed as in package-lock.json');
  return missing('npm dependencies', 'not those of package-lock.json', 'scripts/setup npm');
}

async function checkPackages(): Promise<Requirement> {
  const name = 'Debian packages';
  const text = await readFile(new URL('scripts/packages.txt', rootUrl), 'utf8');
  const wanted = text.replaceAll(/#.*/g, '').split(/\s+/).filter(Boolean);
  const installed = await installedPackages(wanted);
  if (!installed) {
    return warning(name, 'this machine has no dpkg', `install these by other means: ${wanted.join(' ')}`);
  }
  const absent = wanted.filter((one) => !installed.has(one));
  if (absent.length === 0) return ok(name, wanted.join(' '));
  return missing(name, `not installed: ${absent.join(' ')}`, `sudo apt-get install -y ${absent.join(' ')}`);
}

/** Names of those that are installed; null on a machine without dpkg. */
async function installedPackages(names: readonly string[]): Promise<Set<string> | null> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholders of dpkg-query
  const format = '${Package} ${db:Status-Status}\\n';
  try {
    return readInstalled((await promisify(execFile)('dpkg-query', ['-W', '-f', format, ...names])).stdout);
  } catch (error) {
    // It also fails when a single package is unknown, and prints the others all the same.
    if (error instanceof Error && 'stdout' in error && !('code' in error && error.code === 'ENOENT')) {
      return readInstalled(String(error.stdout));
    }
    return null;
  }
}

function readInstalled(output: string): Set<string> {
  const lines = output.split('\n').filter((line) => line.endsWith(' installed'));
  return new Set(lines.map((line) => line.slice(0, line.indexOf(' '))));
}
