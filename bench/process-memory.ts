import { readdir, readFile } from 'node:fs/promises';

/** A process as `/proc` shows it. */
export interface Process {
  readonly pid: number;
  readonly parentPid: number;
  readonly name: string;
}

/** A process with all of its descendants. */
export async function processTree(rootPid: number): Promise<readonly Process[]> {
  const all = await allProcesses();
  const found = all.filter(({ pid }) => pid === rootPid);
  for (const parent of found) found.push(...all.filter(({ parentPid }) => parentPid === parent.pid));
  return found;
}

export async function allProcesses(): Promise<readonly Process[]> {
  const pids = (await readdir('/proc')).map(Number).filter(Number.isInteger);
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')));
  return stats.flatMap((stat, index) => {
    const match = /^\d+ \((.*)\) \S (\d+)/s.exec(stat);
    return match === null ? [] : [{ pid: pids[index] ?? 0, parentPid: Number(match[2]), name: match[1] ?? '' }];
  });
}

/** As the kernel divides what processes share: everything, or only one kind of it. */
type MemoryKind = 'Pss' | 'Pss_Anon' | 'Pss_File' | 'Pss_Shmem';

/** Proportional set sizes together, in MiB; throws when there is no process, or one of them is gone. */
export async function sumMib(processes: readonly Process[], kind: MemoryKind = 'Pss'): Promise<number> {
  if (processes.length === 0) throw new Error('there is no such process');
  const sizes = await Promise.all(processes.map(({ pid }) => pssMib(pid, kind)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

export async function pssMib(pid: number, kind: MemoryKind = 'Pss'): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  const match = new RegExp(`^${kind}:\\s+(\\d+) kB`, 'm').exec(text);
  if (match === null) throw new Error(`process ${pid} has no memory`);
  return Number(match[1]) / 1024;
}
