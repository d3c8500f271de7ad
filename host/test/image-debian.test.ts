import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createImageStore } from '../image-store.ts';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';
import { seedImage } from './image-cache.ts';
import { tempDir } from './temp-dir.ts';

test('the default image has its tools, shifted owners, setuid bits and empty devices', {
  timeout: 600_000,
}, async () => {
  const dataDir = await tempDir();
  const layerId = await seedImage(dataDir);
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e12 });
  const images = await createImageStore({ dataDir, layers });
  const resolved = await images.resolve('minimal', () => {}, new AbortController().signal);
  expect(resolved).toMatchObject({ layerId, warning: null, digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) });
  expect(resolved.env.PATH).toContain('/usr/bin');
  const root = layers.directories([layerId])[0] ?? '';
  for (const tool of ['git', 'curl', 'python3', 'make', 'gcc', 'bash', 'apt-get'])
    await lstat(join(root, 'usr/bin', tool));
  const su = await lstat(join(root, 'usr/bin/su'));
  expect([su.uid, su.mode & 0o7777]).toEqual([100_000, 0o4755]);
  expect(await readdir(join(root, 'dev'))).toEqual([]);
  expect(await readFile(join(root, 'etc/os-release'), 'utf8')).toContain('VERSION_ID="12"');
  expect(await readFile(join(root, 'etc/resolv.conf'), 'utf8')).toBe('');
  const { stdout } = await runProgram(['find', root, '!', '-uid', '+99999', '-print', '-quit']);
  expect(stdout).toBe('');

  const script = `mount --bind /dev "$1/dev" && chroot "$1" sh -c 'git --version && python3 -c "print(6 * 7)" && gcc --version'`;
  const { stdout: versions } = await runProgram(['unshare', '--mount', 'sh', '-c', script, 'sh', root]);
  for (const expected of ['git version', '42', 'gcc (Debian']) expect(versions).toContain(expected);
});
