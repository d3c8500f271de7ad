import { link, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { MicrovmDriver } from '../microvm-driver.ts';
import { cacheDir } from './test-kit.ts';

const sharedDir = join(cacheDir, 'templates');

/**
 * A driver that begins with the templates earlier tests on this machine have made, and leaves its own for later ones: booting one under
 * emulation takes most of a short test. Whether they are of the right version is the driver's own business.
 */
export async function withSharedTemplates(
  dataDir: string,
  open: (dataDir: string) => Promise<MicrovmDriver>,
): Promise<MicrovmDriver> {
  const ownDir = join(dataDir, 'templates');
  await linkTemplates(sharedDir, ownDir);
  const driver = await open(dataDir);
  return {
    ...driver,
    async close() {
      await linkTemplates(ownDir, sharedDir);
      await driver.close();
    },
  };
}

/** Both are on one file system; names say what is in them. */
async function linkTemplates(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true, mode: 0o711 });
  const known = await readdir(to);
  const names = await readdir(from).catch(() => []);
  for (const name of names.filter((each) => /^\w+-\w+$/.test(each) && !known.includes(each))) {
    const draft = join(to, `${name}.${process.pid}.new`);
    await mkdir(draft, { mode: 0o711 });
    for (const file of ['ram', 'devices']) await link(join(from, name, file), join(draft, file));
    // Another test may have been quicker.
    await rename(draft, join(to, name)).catch(() => rm(draft, { recursive: true, force: true }));
  }
}
