import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tableName } from './capsule-network.ts';
import { readCgroupHierarchy } from './cgroup-hierarchy.ts';
import { mountsBelow } from './container-disk.ts';
import { directoriesIn } from './installation-parts.ts';
import { linkPrefix, namespacePrefix } from './network-slot.ts';
import { runProgram } from './run-program.ts';

/** Everything one data directory's capsules have on this machine, one line each, e.g. `mount /run/caisson/ab12cd/…`. */
export type ResourceSnapshot = ReadonlySet<string>;

/**
 * Reads processes, mounts, network namespaces, links, packet rules, control groups and files of the capsules of `dataDir`. Layers and
 * images are not capsules and not listed. A directory that was never opened has none.
 */
export async function snapshotResources(dataDir: string, runRoot = '/run/caisson'): Promise<ResourceSnapshot> {
  const id = await readInstallationId(dataDir);
  if (id === null) return new Set(await mountLines(dataDir));
  const runDir = join(runRoot, id);
  const found = await Promise.all([
    mountLines(runDir),
    mountLines(dataDir),
    processLines([runDir, join(dataDir, 'agents')]),
    cgroupLines(`caisson/${id}`),
    nameLines('namespace', '/run/netns', namespacePrefix(id)),
    nameLines('link', '/sys/class/net', linkPrefix(id)),
    nameLines('file', join(dataDir, 'capsules'), ''),
    nameLines('file', join(dataDir, 'fitted'), ''),
    nameLines('file', runDir, ''),
    claimLines(join(runRoot, 'networks'), id),
    tableLines(tableName(id)),
  ]);
  return new Set(found.flat());
}

/** What is there now and was not before, sorted; empty when nothing leaked. */
export function leaked(before: ResourceSnapshot, after: ResourceSnapshot): readonly string[] {
  return [...after].filter((line) => !before.has(line)).toSorted();
}

async function readInstallationId(dataDir: string): Promise<string | null> {
  try {
    return JSON.parse(await readFile(join(dataDir, 'installation.json'), 'utf8')).installationId;
  } catch {
    return null;
  }
}

async function mountLines(directory: string): Promise<readonly string[]> {
  return (await mountsBelow(directory)).map((path) => `mount ${path}`);
}

/** Host processes that name one of the directories on their command line: runtimes and socket openers. */
async function processLines(directories: readonly string[]): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map(async (pid) => {
      const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
      const isOurs = words.some((word) => directories.some((directory) => word.startsWith(`${directory}/`)));
      return isOurs && Number(pid) !== process.pid ? [`process ${pid} ${words.join(' ').trim()}`] : [];
    }),
  );
  return lines.flat();
}

async function cgroupLines(path: string): Promise<readonly string[]> {
  const { roots } = await readCgroupHierarchy();
  const lines = await Promise.all(
    roots.map(async (root) => {
      const groups = await directoriesIn(join(root, path));
      const members = await Promise.all(groups.map((group) => memberLines(join(root, path, group))));
      return [...groups.map((group) => `cgroup ${join(root, path, group)}`), ...members.flat()];
    }),
  );
  return lines.flat();
}

async function memberLines(group: string): Promise<readonly string[]> {
  const pids = await readFile(join(group, 'cgroup.procs'), 'utf8').catch(() => '');
  return pids.split('\n').flatMap((pid) => (pid === '' ? [] : [`process ${pid} in a capsule`]));
}

async function nameLines(kind: string, directory: string, prefix: string): Promise<readonly string[]> {
  const names = await readdir(directory).catch((): string[] => []);
  return names.filter((name) => name.startsWith(prefix)).map((name) => `${kind} ${join(directory, name)}`);
}

async function claimLines(directory: string, id: string): Promise<readonly string[]> {
  const names = await readdir(directory).catch((): string[] => []);
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), 'utf8').catch(() => '')));
  return names.filter((_, index) => texts[index]?.includes(id)).map((name) => `claim ${join(directory, name)}`);
}

async function tableLines(table: string): Promise<readonly string[]> {
  const { stdout } = await runProgram(['nft', 'list', 'tables']);
  return stdout.split('\n').includes(`table inet ${table}`) ? [`table ${table}`] : [];
}
