import { readdir, readFile } from 'node:fs/promises';
import { waitFor } from './cgroup-capsule.ts';
import type { VesselLayout } from './container-layout.ts';

/** A host process that cannot be mistaken for a later one with the same pid. */
export interface ProcessRef {
  readonly pid: number;
  /** Clock ticks after boot at which it started. */
  readonly startTime: number;
}

/** Null when there is no such process, or nothing but its zombie. */
export async function findProcess(pid: number): Promise<ProcessRef | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name in parentheses may hold anything.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const startTime = Number(fields[18]);
  if (state === undefined || state === '' || 'ZX'.includes(state) || !Number.isInteger(startTime)) return null;
  return { pid, startTime };
}

export async function isAlive(process: ProcessRef): Promise<boolean> {
  return (await findProcess(process.pid))?.startTime === process.startTime;
}

/** Waits until the kernel is done with a killed process; the init of a pid namespace goes last, so all others are gone too. */
export async function waitUntilDead(process: ProcessRef): Promise<void> {
  await waitFor(async () => !(await isAlive(process)), {
    timeoutMs: 10_000,
    failure: `process ${process.pid} outlived SIGKILL`,
  });
}

/** The vessel's init as the runtime noted it; null when it never ran or is dead. `members` are the pids in its cgroup. */
export async function findInit(layout: VesselLayout, members: readonly number[]): Promise<ProcessRef | null> {
  const pid = Number(await readFile(layout.pidFile, 'utf8').catch(() => ''));
  return members.includes(pid) ? findProcess(pid) : null;
}

/** Kills what a killed predecessor left of starting vessels: the programs that are still at it name one of these places of theirs. */
export async function killStarters(places: readonly string[]): Promise<void> {
  if (places.length === 0) return;
  const marks = new Set(places);
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const words = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (!words.some((word) => marks.has(word))) continue;
    const starter = await findProcess(pid);
    if (starter === null) continue;
    process.kill(pid, 'SIGKILL');
    await waitUntilDead(starter);
  }
}
