import { lstat, mkdir, readdir, readFile, readlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { createImageStore, type ImageStoreOptions } from '../image-store.ts';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';
import { registryProblem, startRegistry, writeLayout } from './image-test-registry.ts';
import { type ArchiveEntry, tarOf } from './source-archive.ts';
import { tempDir } from './temp-dir.ts';

beforeEach((context) => {
  if (registryProblem !== null) context.skip(registryProblem);
});

async function openAll(options: Partial<ImageStoreOptions> = {}) {
  const base = await tempDir();
  await mkdir(join(base, 'registry'));
  const registry = await startRegistry(join(base, 'registry'));
  onTestFinished(() => registry.stop());
  const dataDir = join(base, 'data');
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e12 });
  const images = await createImageStore({ dataDir, layers, ...options });
  const lines: string[] = [];
  const resolve = (image: string, signal = new AbortController().signal) =>
    images.resolve(image, (line) => lines.push(line), signal);
  let count = 0;
  const push = async (name: string, contents: readonly (readonly ArchiveEntry[])[], env: readonly string[] = []) => {
    const layout = join(base, `layout-${count++}`);
    const digest = await writeLayout(layout, await Promise.all(contents.map(tarOf)), env);
    await registry.push(layout, name);
    return { image: `${registry.host}/${name}`, digest };
  };
  const rootOf = (layerId: string) => layers.directories([layerId])[0] ?? '';
  const nothingLeft = async () => expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
  return { base, registry, layers, lines, resolve, push, rootOf, nothingLeft };
}

test('an image made by umoci is pulled with its environment, and shifted', async () => {
  const { base, registry, resolve, rootOf, lines } = await openAll();
  const layout = join(base, 'busybox');
  await mkdir(join(base, 'bin'));
  await writeFile(join(base, 'bin', 'busybox'), '#!/bin/true\n', { mode: 0o4755 });
  await runProgram(['chmod', '4755', join(base, 'bin', 'busybox')]);
  await runProgram(['umoci', 'init', '--layout', layout]);
  await runProgram(['umoci', 'new', '--image', `${layout}:image`]);
  await runProgram(['umoci', 'insert', '--image', `${layout}:image`, join(base, 'bin'), '/bin']);
  await runProgram([
    'umoci',
    'config',
    '--image',
    `${layout}:image`,
    '--config.env',
    'PATH=/bin',
    '--config.env',
    'A=b=c',
  ]);
  await registry.push(layout, 'people/busybox:1');
  const resolved = await resolve(`${registry.host}/people/busybox:1`);
  expect(resolved).toMatchObject({
    warning: null,
    env: { PATH: '/bin', A: 'b=c' },
    digest: expect.stringMatching(/^sha256:/),
  });
  const busybox = await lstat(join(rootOf(resolved.layerId), 'bin/busybox'));
  expect([busybox.uid, busybox.gid, busybox.mode & 0o7777]).toEqual([100_000, 100_000, 0o4755]);
  expect((await lstat(rootOf(resolved.layerId))).uid).toBe(100_000);
  expect(lines.join('\n')).toMatch(/pulling image[\s\S]*unpacking image/);
});

test('layers, whiteouts, owners and symlinks come out as the image means them', async () => {
  const { resolve, push, rootOf } = await openAll();
  const { image } = await push('layers:1', [
    [
      { name: 'etc/', type: 'directory', mode: 0o755 },
      { name: 'etc/gone', content: 'gone' },
      { name: 'etc/kept', content: 'kept', uid: 33, gid: 44 },
      { name: 'var/old/a', content: 'a' },
      { name: 'sh', type: 'symlink', linkname: '/bin/busybox' },
      { name: 'dev/null', type: 'character-device', devmajor: 1, devminor: 3 },
    ],
    [
      { name: 'etc/.wh.gone', content: '' },
      { name: 'var/old/.wh..wh..opq', content: '' },
      { name: 'var/old/b', content: 'b' },
    ],
  ]);
  const root = rootOf((await resolve(image)).layerId);
  expect((await readdir(root)).sort()).toEqual(['dev', 'etc', 'sh', 'var']);
  expect(await readdir(join(root, 'etc'))).toEqual(['kept']);
  expect(await readdir(join(root, 'var/old'))).toEqual(['b']);
  expect(await readdir(join(root, 'dev'))).toEqual([]);
  expect(await readlink(join(root, 'sh'))).toBe('/bin/busybox');
  const kept = await lstat(join(root, 'etc/kept'));
  expect([kept.uid, kept.gid]).toEqual([100_033, 100_044]);
});

test('a tag is asked for each time and pulled once per digest; concurrent callers share the pull', async () => {
  const { resolve, push, lines, layers, registry } = await openAll();
  const first = await push('tagged:latest', [[{ name: 'a', content: '1' }]]);
  const [one, two] = await Promise.all([resolve(first.image), resolve(`docker://${first.image}`)]);
  expect(two.layerId).toBe(one.layerId);
  expect(one.digest).toBe(first.digest);
  expect(lines.filter((line) => line.startsWith('unpacking'))).toHaveLength(1);
  lines.length = 0;
  expect((await resolve(`${registry.host}/tagged@${first.digest}`)).layerId).toBe(one.layerId);
  expect((await resolve(first.image)).layerId).toBe(one.layerId);
  expect(lines).toEqual([]);
  const second = await push('tagged:latest', [[{ name: 'a', content: '2' }]]);
  expect((await resolve(first.image)).digest).toBe(second.digest);
  expect(layers.list()).toHaveLength(2);
});

test('without its registry an image pulled earlier still serves, with a warning', async () => {
  const { resolve, push, registry } = await openAll();
  const { image, digest } = await push('offline:1', [[{ name: 'a', content: '1' }]]);
  const online = await resolve(image);
  await registry.stop();
  const offline = await resolve(image);
  expect(offline).toMatchObject({ layerId: online.layerId, warning: expect.stringContaining('does not answer') });
  expect((await resolve(`${registry.host}/offline@${digest}`)).warning).toBe(null);
  await expect(resolve(`${registry.host}/other:1`)).rejects.toMatchObject({
    code: 'image_unavailable',
    message: expect.stringMatching(/cannot be reached.*alias/s),
  });
});

test('an image that does not exist is unavailable', async () => {
  const { resolve, push, registry, nothingLeft } = await openAll();
  await expect(resolve(`${registry.host}/none/such:1`)).rejects.toMatchObject({
    code: 'image_unavailable',
    message: expect.stringContaining('does not exist'),
  });
  await push('exists:1', [[{ name: 'a', content: '1' }]]);
  await expect(resolve(`${registry.host}/exists:2`)).rejects.toMatchObject({ code: 'image_unavailable' });
  await expect(resolve(`${registry.host}/exists@sha256:${'0'.repeat(64)}`)).rejects.toMatchObject({
    code: 'image_unavailable',
  });
  await nothingLeft();
});

test('names that are no image names are refused before anything runs', async () => {
  const { resolve } = await openAll();
  for (const name of [
    '',
    '-x',
    'UPPER',
    'a b',
    'a:',
    'a@sha256:12',
    '../x',
    'a//b',
    'docker://',
    'x'.repeat(600),
    'host:99999999/x',
  ])
    await expect(resolve(name)).rejects.toMatchObject({
      code: 'image_invalid',
      message: expect.stringContaining('no image name'),
    });
});

test('bytes that are not what their digest says are refused and leave nothing', async () => {
  const { resolve, push, registry, base, nothingLeft } = await openAll();
  const short = await push('short:1', [[{ name: 'a', content: 'a'.repeat(100_000) }]]);
  const manifest = JSON.parse(await readFile(join(base, 'layout-0/blobs/sha256', short.digest.slice(7)), 'utf8'));
  await truncate(registry.blobFile(manifest.layers[0].digest), 50);
  await expect(resolve(short.image)).rejects.toMatchObject({ code: 'image_invalid' });
  const broken = await push('broken:1', [[{ name: 'b', content: 'b' }]]);
  await writeFile(
    registry.blobFile(broken.digest),
    '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"',
  );
  await expect(resolve(broken.image)).rejects.toMatchObject({
    code: expect.stringMatching(/^image_(invalid|unavailable)$/),
  });
  await nothingLeft();
});

const hostile: readonly (readonly [string, readonly (readonly ArchiveEntry[])[]])[] = [
  ['a device outside dev', [[{ name: 'etc/sda', type: 'block-device', devmajor: 8, devminor: 0 }]]],
  [
    'a device through a symlink',
    [
      [
        { name: 'dev', type: 'symlink', linkname: 'etc' },
        { name: 'dev/x', type: 'character-device', devmajor: 1, devminor: 3 },
      ],
    ],
  ],
  ['a name that climbs', [[{ name: '../../../victim/x', content: 'x' }]]],
  ['an owner beyond the range', [[{ name: 'x', content: 'x', uid: 70_000 }]]],
  ['a root that is a symlink', [[{ name: './', type: 'symlink', linkname: '/etc' }]]],
  ['more than the limits allow', [[{ name: 'zeros', content: Buffer.alloc(90_000_000) }]]],
  ['layers that together are too much', ['a', 'b', 'c'].map((name) => [{ name, content: Buffer.alloc(30_000_000) }])],
];

test.each(hostile)('an image with %s is refused and leaves nothing', async (_, contents) => {
  const { resolve, push, nothingLeft } = await openAll({ limits: { maxUnpackedBytes: 80_000_000 } });
  const { image } = await push('hostile:1', contents);
  await expect(resolve(image)).rejects.toMatchObject({
    code: 'image_invalid',
    message: expect.stringContaining('cannot be used'),
  });
  await nothingLeft();
});

test('symlinks of an image lead inside its own tree and never outside', async () => {
  const { resolve, push, rootOf, base } = await openAll();
  const victim = join(base, 'victim');
  await mkdir(victim);
  await writeFile(join(victim, 'file'), 'untouched');
  const up = '../'.repeat(20);
  const { image } = await push('links:1', [
    [
      { name: 'absolute', type: 'symlink', linkname: victim },
      { name: 'relative', type: 'symlink', linkname: `${up}${victim}` },
      { name: 'file', type: 'symlink', linkname: join(victim, 'file') },
      { name: 'dev', type: 'symlink', linkname: victim },
    ],
    [
      { name: 'absolute/file', content: 'owned' },
      { name: 'relative/file', content: 'owned' },
      { name: 'file', content: 'owned' },
      { name: 'absolute/.wh.file', content: '' },
    ],
    [
      { name: 'hard', type: 'link', linkname: 'absolute/file' },
      { name: `${victim}/slash`, content: 'inside' },
    ],
  ]);
  const root = rootOf((await resolve(image)).layerId);
  expect(await readdir(victim)).toEqual(['file']);
  expect(await readFile(join(victim, 'file'), 'utf8')).toBe('untouched');
  expect(await readFile(join(root, victim, 'file'), 'utf8')).toBe('owned');
  expect(await readFile(join(root, victim, 'slash'), 'utf8')).toBe('inside');
  expect((await lstat(join(root, victim.split('/')[1] ?? ''))).uid).toBe(100_000);
  expect(await readlink(join(root, 'dev'))).toBe(victim);
});

test('an alias stands in for every spelling of a name, and says so', async () => {
  const { push, registry, base } = await openAll();
  const { image } = await push('stand-in:1', [[{ name: 'a', content: '1' }]]);
  const dataDir = join(base, 'aliased');
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e12 });
  const images = await createImageStore({ dataDir, layers, aliases: { 'ubuntu:24.04': image } });
  for (const name of ['ubuntu:24.04', 'docker.io/library/ubuntu:24.04', 'docker://ubuntu:24.04']) {
    const { warning } = await images.resolve(name, () => {}, new AbortController().signal);
    expect(warning).toContain(`image ${name} is not used here: ${registry.host}/stand-in:1 stands in for it`);
  }
});

test('a caller that leaves does not stop the pull of another; when all leave it is undone', async () => {
  const { resolve, push, nothingLeft, layers } = await openAll();
  const { image } = await push('leaving:1', [[{ name: 'a', content: 'x'.repeat(1_000_000) }]]);
  const [leaver, alone] = [new AbortController(), new AbortController()];
  const left = resolve(image, leaver.signal);
  const stays = resolve(image);
  leaver.abort(new Error('not interested'));
  await expect(left).rejects.toThrow('not interested');
  const { layerId } = await stays;
  await layers.release(layerId);
  await layers.collect();
  const undone = resolve(image, alone.signal);
  alone.abort(new Error('nor I'));
  await expect(undone).rejects.toThrow('nor I');
  await nothingLeft();
});
