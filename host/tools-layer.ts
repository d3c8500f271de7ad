import { createHash, randomUUID } from 'node:crypto';
import {
  chmod,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { exists } from './exists.ts';
import { runProgram } from './run-program.ts';

interface ToolsLayerOptions {
  readonly dataDir: string;
  readonly nodeBinary: string;
  /** The TypeScript sources that become `pipeline/` in the tools. */
  readonly pipelineDir: string;
}

/** Where a capsule that gets the tools sees them. */
export const toolsMountPath = '/opt/caisson';

/**
 * How to start the tools' Node in any image, also one without a shell or with another C library: by the loader that belongs to
 * it. Its arguments follow.
 */
export const toolsNodeArgv = [
  `${toolsMountPath}/lib/ld.so`,
  '--library-path',
  `${toolsMountPath}/lib`,
  `${toolsMountPath}/bin/node.bin`,
] as const;

/**
 * Has the tools' Node take its own sources stripped and compiled from the layer: that is half of a rendering. What is kept there knows
 * its files by where they lie from it, so that it can be made outside.
 */
export const toolsNodeEnv = {
  NODE_COMPILE_CACHE: `${toolsMountPath}/compiled`,
  NODE_COMPILE_CACHE_PORTABLE: '1',
} as const;

/** For images with a shell: `node` as people expect it on a PATH. */
const launcher = `#!/bin/sh\nexec ${toolsNodeArgv.join(' ')} "$@"\n`;
const keepUnusedMs = 7 * 24 * 3600_000;

/**
 * Makes the directory that capsules see read-only at `/opt/caisson`: Node with its libraries and loader, and the pipeline sources,
 * also compiled.
 * Made once for the same Node and sources; later calls only look. Throws `tools_unavailable`.
 */
export async function createToolsLayer(options: ToolsLayerOptions): Promise<string> {
  try {
    const nodeBinary = await realpath(options.nodeBinary);
    const sources = await readSources(options.pipelineDir);
    const parent = join(options.dataDir, 'tools');
    const directory = join(parent, await keyOf(nodeBinary, sources));
    if (!(await exists(directory))) await make(directory, nodeBinary, sources);
    const now = new Date();
    crashPoint('tools.placed');
    await utimes(directory, now, now);
    await removeUnused(parent);
    return directory;
  } catch (cause) {
    throw new AppError(
      'tools_unavailable',
      `the tools for capsules could not be made of ${options.nodeBinary}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** Removes what a killed host did not finish; to be called before anything makes tools in this data directory. */
export async function clearToolDrafts(dataDir: string): Promise<void> {
  const parent = join(dataDir, 'tools');
  for (const name of await readdir(parent).catch(() => []))
    if (name.startsWith('.tmp-')) await rm(join(parent, name), { recursive: true, force: true });
}

type Sources = ReadonlyMap<string, Buffer>;

/** Every file that runs in a capsule, by its path below the sources' directory. */
async function readSources(pipelineDir: string): Promise<Sources> {
  const sources = new Map<string, Buffer>();
  const walk = async (below: string) => {
    for (const entry of await readdir(join(pipelineDir, below), { withFileTypes: true })) {
      const path = join(below, entry.name);
      if (entry.isDirectory() && !['test', 'node_modules', 'python'].includes(entry.name)) await walk(path);
      if (/\.ts$|^package\.json$/.test(entry.name) && entry.isFile())
        sources.set(path, await readFile(join(pipelineDir, path)));
    }
  };
  await walk('.');
  return new Map([...sources].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The binary counts by size and time of change: hashing a hundred megabytes at each start would be felt. */
async function keyOf(nodeBinary: string, sources: Sources): Promise<string> {
  const { size, mtimeMs, ino } = await stat(nodeBinary);
  const hash = createHash('sha256').update(JSON.stringify([nodeBinary, size, mtimeMs, ino, launcher, toolsNodeEnv]));
  for (const [path, bytes] of sources) hash.update(`${path}\0${bytes.length}\0`).update(bytes);
  return hash.digest('hex').slice(0, 32);
}

async function make(directory: string, nodeBinary: string, sources: Sources): Promise<void> {
  const temp = join(dirname(directory), `.tmp-${randomUUID()}`);
  try {
    for (const name of ['bin', 'lib', 'pipeline']) await mkdir(join(temp, name), { recursive: true });
    await placeProgram(nodeBinary, join(temp, 'bin/node.bin'));
    await writeFile(join(temp, 'bin/node'), launcher, { mode: 0o755 });
    await placeLibraries(nodeBinary, join(temp, 'lib'));
    for (const [path, bytes] of sources) {
      await mkdir(dirname(join(temp, 'pipeline', path)), { recursive: true });
      await writeFile(join(temp, 'pipeline', path), bytes, { mode: 0o644 });
    }
    await compileSources(temp);
    crashPoint('tools.filled');
    await rename(temp, directory).catch(async (error) => {
      // Another caller was faster; both made the same.
      if (!(await exists(directory))) throw error;
    });
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}

const samplePipeline = `import { pipeline, sh } from '@caisson/pipeline';
export default pipeline([sh('true', { label: 'a' }).sh('true', { label: 'b' })], { timeout: '1m' });
`;

/** Renders a pipeline once, at whose end Node keeps what it compiled. */
async function compileSources(directory: string): Promise<void> {
  const inside = (path: string) => path.replace(toolsMountPath, directory);
  const workspace = join(directory, 'sample');
  await mkdir(join(workspace, '.caisson'), { recursive: true });
  await writeFile(join(workspace, '.caisson/pipeline.ts'), samplePipeline);
  const argv = [...toolsNodeArgv, `${toolsMountPath}/pipeline/render/render-main.ts`].map(inside);
  const env = Object.fromEntries(Object.entries(toolsNodeEnv).map(([name, value]) => [name, inside(value)]));
  await runProgram([...argv, workspace], { env: { PATH: '/usr/bin:/bin', ...env } });
  await rm(workspace, { recursive: true });
  // Capsules are nobody here.
  await makeReadable(inside(toolsNodeEnv.NODE_COMPILE_CACHE));
}

async function makeReadable(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await makeReadable(path);
    else await chmod(path, 0o644);
  }
}

/** Linked where it can be; a file not everyone may run is copied, because the capsule's root is nobody here. */
async function placeProgram(from: string, to: string): Promise<void> {
  const isRunnable = ((await stat(from)).mode & 0o005) === 0o005;
  const linked =
    isRunnable &&
    (await link(from, to)
      .then(() => true)
      .catch(() => false));
  if (linked) return;
  await copyFile(from, to);
  await chmod(to, 0o755);
}

async function placeLibraries(nodeBinary: string, libDir: string): Promise<void> {
  const { stdout } = await runProgram(['ldd', nodeBinary]);
  let hasLoader = false;
  for (const line of stdout.split('\n')) {
    const library = /^\s*(\S+) => (\/\S+)/.exec(line);
    const loader = /^\s*(\/\S+) \(0x/.exec(line);
    if (/=> not found/.test(line)) throw new Error(`a library is missing: ${line.trim()}`);
    if (library !== null) await copy(library[2] ?? '', join(libDir, library[1] ?? ''), 0o644);
    if (loader !== null) await copy(loader[1] ?? '', join(libDir, 'ld.so'), 0o755);
    hasLoader ||= loader !== null;
  }
  if (!hasLoader) throw new Error('it is not dynamically linked');
}

async function copy(from: string, to: string, mode: number): Promise<void> {
  await copyFile(from, to);
  await chmod(to, mode);
}

/** Earlier versions go only long after their last use: a capsule that outlived an upgrade may still look at them. */
async function removeUnused(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    const usedAtMs = (await stat(path).catch(() => null))?.mtimeMs ?? Date.now();
    if (Date.now() - usedAtMs > keepUnusedMs) await rm(path, { recursive: true, force: true });
  }
}
