import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createImageStore } from '../image-store.ts';
import { createLayerStore } from '../layer-disk.ts';
import { tempDir } from './temp-dir.ts';

async function openWith(mirror: string) {
  const dataDir = await tempDir();
  const aptDir = join(dataDir, 'apt');
  await mkdir(aptDir);
  await writeFile(join(aptDir, 'sources.list'), `deb ${mirror}/debian bookworm main\n`);
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e12 });
  const images = await createImageStore({ dataDir, layers, aptDir });
  return { dataDir, aptDir, images };
}

/** A mirror that takes requests and never answers; `asked` resolves at the first. */
async function silentMirror(): Promise<{ readonly url: string; readonly asked: Promise<void> }> {
  const asked = Promise.withResolvers<void>();
  const server = createServer(() => asked.resolve());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => server.closeAllConnections());
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked: asked.promise };
}

/** Command lines on this machine that name the directory. */
async function processesNaming(dir: string): Promise<readonly string[]> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(ids.map((id) => readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(dir));
}

test('an archive that cannot be reached makes an image unavailable, with advice', async () => {
  const { dataDir, images } = await openWith('http://127.0.0.1:1');
  await expect(images.resolve('debian:12', () => {}, new AbortController().signal)).rejects.toMatchObject({
    code: 'image_unavailable',
    message: expect.stringMatching(/debian:12 could not be built.*apt-get update/s),
  });
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
});

test('a build that nobody waits for any more is ended with all its processes', async () => {
  const mirror = await silentMirror();
  const { dataDir, images } = await openWith(mirror.url);
  const lines: string[] = [];
  const leaver = new AbortController();
  const building = images.resolve('debian:12', (line) => lines.push(line), leaver.signal);
  await mirror.asked;
  expect(await processesNaming(dataDir)).not.toEqual([]);
  leaver.abort(new Error('canceled'));
  await expect(building).rejects.toThrow('canceled');
  await expect.poll(() => readdir(join(dataDir, 'layers'))).toEqual([]);
  expect(await processesNaming(dataDir)).toEqual([]);
  expect(lines[0]).toMatch(/^building image debian:12: starting/);
});

test('a build whose host is killed ends with it, and the next start removes its files', async () => {
  const mirror = await silentMirror();
  const { dataDir, aptDir } = await openWith(mirror.url);
  const here = (name: string) => JSON.stringify(new URL(`../${name}`, import.meta.url).href);
  const script = `
    import { createImageStore } from ${here('image-store.ts')};
    import { createLayerStore } from ${here('layer-disk.ts')};
    const [dataDir, aptDir] = process.argv.slice(1);
    const layers = await createLayerStore({ dataDir, budgetBytes: 1e12 });
    const images = await createImageStore({ dataDir, layers, aptDir });
    await images.resolve('debian:12', () => {}, new AbortController().signal);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, dataDir, aptDir], { stdio: 'ignore' });
  await mirror.asked;
  child.kill('SIGKILL');
  await expect.poll(() => processesNaming(dataDir)).toEqual([]);
  expect(await readdir(join(dataDir, 'layers'))).not.toEqual([]);
  await createLayerStore({ dataDir, budgetBytes: 1e12 });
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
});
