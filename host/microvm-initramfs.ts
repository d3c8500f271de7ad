import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type CpioEntry, cpioArchive } from './cpio-archive.ts';
import { exists } from './exists.ts';
import type { QemuKit } from './qemu-kit.ts';

/**
 * Makes a machine's first root of the agent and the kernel's modules, once per agent and kit, in the kit's own root where QEMU can see
 * it. Returns its path below that root. Nothing else is in it: the agent mounts, loads and configures by itself.
 */
export async function prepareInitramfs(kit: QemuKit, agentPath: string): Promise<string> {
  const archive = cpioArchive(await entriesOf(kit, agentPath));
  const digest = createHash('sha256').update(archive).digest('hex').slice(0, 16);
  const path = `/boot/initramfs-${digest}`;
  const outsidePath = join(kit.rootDir, path);
  if (await exists(outsidePath)) return path;
  await writeFile(`${outsidePath}.${process.pid}.new`, archive, { mode: 0o644 });
  await rename(`${outsidePath}.${process.pid}.new`, outsidePath);
  return path;
}

async function entriesOf(kit: QemuKit, agentPath: string): Promise<readonly CpioEntry[]> {
  const directories = ['dev', 'proc', 'sys', 'modules'].map((path) => ({ path, mode: 0o755 }));
  const modules = await Promise.all(
    kit.modulePaths.map(async (path) => ({
      path: `modules/${basename(path)}`,
      mode: 0o644,
      bytes: await readFile(path),
    })),
  );
  return [...directories, ...modules, { path: 'init', mode: 0o755, bytes: await readFile(agentPath) }];
}
