import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CapsuleNetwork } from './capsule-network.ts';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { ignoringMissing, isErrno } from './container-errors.ts';
import type { Installation } from './container-layout.ts';
import type { Strays } from './strays.ts';

interface InstallationParts {
  readonly installation: Installation;
  readonly hierarchy: CgroupHierarchy;
}

/** Ids of every capsule of which anything exists: each has a place on disk for as long as it has anything. */
export function listCapsules({ capsulesDir }: Installation): Promise<readonly string[]> {
  return directoriesIn(capsulesDir);
}

/** Names of everything that has a run directory or a control group: the vessels, in any state, and what a driver itself has there. */
export async function listVessels({ installation, hierarchy }: InstallationParts): Promise<readonly string[]> {
  const found = await Promise.all([installation.runDir, ...groupsOf({ installation, hierarchy })].map(directoriesIn));
  return [...new Set(found.flat())];
}

/** Closes the network; with neither capsules nor strays left, nothing of the installation stays but its files. */
export async function closeInstallation({
  network,
  strays,
  ...parts
}: InstallationParts & { readonly network: CapsuleNetwork; readonly strays: Strays }): Promise<void> {
  const isLast = (await strays.retry()) === 0 && (await listCapsules(parts.installation)).length === 0;
  await network.close(isLast);
  if (!isLast) return;
  await rm(parts.installation.runDir, { recursive: true, force: true });
  await Promise.all(groupsOf(parts).map((group) => ignoringMissing(rmdir(group))));
}

/** The control group above those of the vessels, in every hierarchy. */
function groupsOf({ installation, hierarchy }: InstallationParts): readonly string[] {
  return hierarchy.roots.map((root) => join(root, installation.cgroupPath));
}

/** Names of the directories in a directory, which need not be there. */
export async function directoriesIn(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
