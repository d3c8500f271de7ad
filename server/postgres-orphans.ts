import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const quitAfterMs = 20_000;
const killAfterMs = 25_000;

/**
 * Waits until no process of an earlier server works in the cluster, asking it to stop if need be, and then removes its lock
 * files. PostgreSQL judges such a file by its pid alone, which another program may have by now; and it must not start beside
 * back-ends that have outlived their server. Call it only while holding the lock of the directory.
 */
export async function endOrphans(clusterDir: string): Promise<void> {
  const startedMs = performance.now();
  let asked = false;
  for (;;) {
    const pids = await processesIn(clusterDir);
    if (pids.length === 0) break;
    const waitedMs = performance.now() - startedMs;
    if (waitedMs > quitAfterMs) for (const pid of pids) signal(pid, waitedMs > killAfterMs ? 'SIGKILL' : 'SIGQUIT');
    else if (!asked) asked = await askServer(clusterDir, pids);
    await delay(25);
  }
  await rm(join(clusterDir, 'postmaster.pid'), { force: true });
  await rm(join(clusterDir, '.s.PGSQL.5432.lock'), { force: true });
}

/** Asks the server for a fast shutdown. False when only its back-ends are left: those notice by themselves. */
async function askServer(dir: string, pids: readonly number[]): Promise<boolean> {
  const file = await readFile(join(dir, 'postmaster.pid'), 'utf8').catch(() => '');
  const server = Number.parseInt(file, 10);
  if (!pids.includes(server)) return false;
  signal(server, 'SIGINT');
  return true;
}

/** Every process of a cluster has the cluster as its working directory, under whatever path it sees it. */
async function processesIn(dir: string): Promise<number[]> {
  const wanted = await stat(dir);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const cwd = await stat(`/proc/${pid}/cwd`).catch(() => null);
      return pid !== process.pid && cwd?.ino === wanted.ino && cwd.dev === wanted.dev ? [pid] : [];
    }),
  );
  return found.flat();
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended in between.
  }
}
