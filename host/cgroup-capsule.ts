import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { ignoringMissing, isErrno } from './container-errors.ts';
import { steadyMs } from './steady-clock.ts';

/** One capsule's control group, read and written directly: no program is started for it. */
export interface CapsuleCgroup {
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Kills every process, frozen or not, and waits until none is left; throws `provision_failed` after `timeoutMs`. */
  killAll(timeoutMs: number): Promise<void>;
  /** Host pids in the group; empty when the group is gone. */
  processes(): Promise<readonly number[]>;
  usage(): Promise<{ readonly memoryBytes: number; readonly cpuMs: number }>;
  /** Whether the kernel killed something here for want of memory; false once the group is gone. */
  outOfMemory(): Promise<boolean>;
  /** Removes the group from every hierarchy. Idempotent; the processes must be gone. */
  remove(): Promise<void>;
}

/** `path` is below every hierarchy's root, e.g. `caisson/ab12cd/<capsuleId>`. Nothing is created: the runtime does that. */
export function openCgroup(hierarchy: CgroupHierarchy, path: string): CapsuleCgroup {
  const files = hierarchy.mode === 'v2' ? unifiedFiles(hierarchy, path) : controllerFiles(hierarchy, path);
  const processes = () => readPids(files.processes);
  return {
    processes,
    async freeze() {
      await writeFile(files.freeze, files.frozen);
      await waitFor(async () => (await readFile(files.isFrozen, 'utf8')).match(files.frozenPattern) !== null, {
        timeoutMs: 5_000,
        failure: `the processes of ${path} could not be frozen`,
      });
    },
    thaw: () => writeFile(files.freeze, files.thawed),
    async killAll(timeoutMs) {
      const deadline = { timeoutMs, failure: `processes of ${path} outlived SIGKILL` };
      await waitFor(async () => {
        const pids = await processes();
        if (pids.length > 0) await killOnce(files, pids);
        return pids.length === 0;
      }, deadline);
    },
    usage: () => files.usage(),
    async outOfMemory() {
      return memoryKillsIn(await readFile(files.memoryEvents, 'utf8').catch(() => '')) > 0;
    },
    async remove() {
      await Promise.all(hierarchy.roots.map((root) => removeGroup(join(root, path))));
    },
  };
}

interface CgroupFiles {
  readonly processes: string;
  readonly freeze: string;
  readonly frozen: string;
  readonly thawed: string;
  readonly isFrozen: string;
  readonly frozenPattern: RegExp;
  /** Kills the whole group at once where the kernel can (v2 since 5.14). */
  readonly kill: string | null;
  readonly memoryEvents: string;
  usage(): Promise<{ readonly memoryBytes: number; readonly cpuMs: number }>;
}

function unifiedFiles({ roots }: CgroupHierarchy, path: string): CgroupFiles {
  const group = join(roots[0] ?? '/sys/fs/cgroup', path);
  return {
    processes: join(group, 'cgroup.procs'),
    freeze: join(group, 'cgroup.freeze'),
    frozen: '1',
    thawed: '0',
    isFrozen: join(group, 'cgroup.events'),
    frozenPattern: /^frozen 1$/m,
    kill: join(group, 'cgroup.kill'),
    memoryEvents: join(group, 'memory.events'),
    async usage() {
      const [memory, cpu] = await Promise.all([
        readFile(join(group, 'memory.current'), 'utf8'),
        readFile(join(group, 'cpu.stat'), 'utf8'),
      ]);
      const usec = Number(/^usage_usec (\d+)$/m.exec(cpu)?.[1] ?? 0);
      return { memoryBytes: Number(memory), cpuMs: Math.round(usec / 1000) };
    },
  };
}

function controllerFiles({ controllers, roots }: CgroupHierarchy, path: string): CgroupFiles {
  const group = (controller: string) => join(controllers.get(controller) ?? roots[0] ?? '/sys/fs/cgroup', path);
  return {
    processes: join(group('freezer'), 'cgroup.procs'),
    freeze: join(group('freezer'), 'freezer.state'),
    frozen: 'FROZEN',
    thawed: 'THAWED',
    isFrozen: join(group('freezer'), 'freezer.state'),
    frozenPattern: /^FROZEN$/m,
    kill: null,
    memoryEvents: join(group('memory'), 'memory.oom_control'),
    async usage() {
      const [memory, cpu] = await Promise.all([
        readFile(join(group('memory'), 'memory.usage_in_bytes'), 'utf8'),
        readFile(join(group('cpuacct'), 'cpuacct.usage'), 'utf8'),
      ]);
      return { memoryBytes: Number(memory), cpuMs: Math.round(Number(cpu) / 1e6) };
    },
  };
}

/** How many processes were killed for want of memory, by the memory events of a group of either version. */
export function memoryKillsIn(events: string): number {
  return Number(/^oom_kill (\d+)$/m.exec(events)?.[1] ?? 0);
}

/** One round; a process that forks meanwhile is caught by the next. A frozen v1 group must thaw before its processes can die. */
async function killOnce(files: CgroupFiles, pids: readonly number[]): Promise<void> {
  const killedByKernel =
    files.kill !== null &&
    (await writeFile(files.kill, '1').then(
      () => true,
      () => false,
    ));
  if (!killedByKernel) for (const pid of pids) killProcess(pid);
  await writeFile(files.freeze, files.thawed).catch(() => {});
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}

async function readPids(path: string): Promise<readonly number[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return '';
    throw error;
  });
  return (
    text
      .split('\n')
      .filter((line) => line !== '')
      .map(Number)
      // 0 stands for a process this pid namespace cannot see; signalling it would hit our own group.
      .filter((pid) => pid > 0)
  );
}

async function removeGroup(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeGroup(join(directory, entry.name));
  // The kernel may count a process that just died for a moment longer.
  await waitFor(
    async () => {
      try {
        await ignoringMissing(rmdir(directory));
        return true;
      } catch (error) {
        if (isErrno(error, 'EBUSY')) return false;
        throw error;
      }
    },
    { timeoutMs: 5_000, failure: `the control group ${directory} stayed busy` },
  );
}

/** Polls with a growing pause, from 1 ms to 50 ms; throws `provision_failed` with `failure` when the time is up. */
export async function waitFor(
  condition: () => Promise<boolean>,
  { timeoutMs, failure }: { readonly timeoutMs: number; readonly failure: string },
): Promise<void> {
  const endsAtMs = steadyMs() + timeoutMs;
  for (let pauseMs = 1; !(await condition()); pauseMs = Math.min(pauseMs * 2, 50)) {
    if (steadyMs() > endsAtMs) throw new AppError('provision_failed', failure);
    await delay(pauseMs);
  }
}
