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

/** Proportional set sizes together, in MiB; throws when there is no process, or one of them is gone. */
export async function sumMib(processes: readonly Process[]): Promise<number> {
  if (processes.length === 0) throw new Error('there is no such process');
  const sizes = await Promise.all(processes.map(({ pid }) => pssMib(pid)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

export async function pssMib(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  const match = /^Pss:\s+(\d+) kB/m.exec(text);
  if (match === null) throw new Error(`process ${pid} has no memory`);
  return Number(match[1]) / 1024;
}
