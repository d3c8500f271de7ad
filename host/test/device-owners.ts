import { stat } from 'node:fs/promises';

/** The devices every capsule sees of its host. */
const shownDevices = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];

/** Owner, group, mode and number of each device that capsules see, as text by its path. */
export async function deviceOwners(): Promise<Readonly<Record<string, string>>> {
  const entries = shownDevices.map(async (name) => {
    const { uid, gid, mode, rdev } = await stat(`/dev/${name}`);
    return [`/dev/${name}`, `${uid}:${gid} ${mode.toString(8)} ${rdev}`] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}
