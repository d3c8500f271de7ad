import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from './write-atomically.ts';

/** Settings of the machine that the driver changed, by name, with the time: for the operator who wonders who it was. */
type HostChanges = Readonly<Record<string, string>>;

/**
 * The kernel counts what all capsules watch towards the user who started them, root, whose limit is 128 by default: one capsule could
 * take file watching from all others and from the host. Each watch also counts as memory of its capsule, and that limit is enough.
 */
const inotifySettings = ['max_user_instances', 'max_user_watches'].map((name) => `/proc/sys/fs/inotify/${name}`);
const unlimited = 2 ** 31 - 1;

/** Lifts the limits one capsule could exhaust for everybody. A machine that does not let itself be changed stays as it is. */
export async function liftSharedLimits(dataDir: string): Promise<void> {
  for (const path of inotifySettings) {
    const before = Number(await readFile(path, 'utf8').catch(() => unlimited));
    if (before >= unlimited) continue;
    const isLifted = await writeFile(path, String(unlimited)).then(
      () => true,
      () => false,
    );
    if (isLifted) await noteHostChange(dataDir, `${path} raised from ${before}`);
  }
}

/** Adds a line to `host-changes.json`. What was changed stays changed, since others may rely on it by then. */
export async function noteHostChange(dataDir: string, what: string): Promise<void> {
  const path = join(dataDir, 'host-changes.json');
  const known: HostChanges = JSON.parse(await readFile(path, 'utf8').catch(() => '{}'));
  await writeAtomically(path, `${JSON.stringify({ ...known, [what]: new Date().toISOString() }, null, 2)}\n`);
}
