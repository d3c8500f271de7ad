import { lstat, mkdir, readdir, readFile, readlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';
import { createSourceStore, type SourceLimits } from '../source-store.ts';
import { type Archive, archiveOf, pieces, raw, tarOf } from './source-archive.ts';
import { tempDir } from './temp-dir.ts';

async function openStores(limits: Partial<SourceLimits> = {}) {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  const sources = await createSourceStore({ dataDir, layers, limits });
  const unpack = async (archive: Archive) => {
    await sources.put(archive.digest, pieces(archive.bytes));
    const layerId = await sources.layerFor(archive.digest);
    return join(layers.directories([layerId])[0] ?? '', 'workspace');
  };
  const leftovers = async () => [
    ...(await readdir(join(dataDir, 'layers'))),
    ...(await readdir(join(dataDir, 'sources'))),
  ];
  return { dataDir, layers, sources, unpack, leftovers };
}

test('an archive is unpacked once below workspace, with modes and times and the capsule root as owner', async () => {
  const { sources, unpack, leftovers } = await openStores();
  const mtime = new Date('2020-02-02T02:02:02Z');
  const archive = archiveOf(
    await tarOf([
      { name: './', type: 'directory', mode: 0o700, mtime },
      { name: './bin/', type: 'directory', mode: 0o750, mtime },
      { name: './bin/tool', content: '#!/bin/sh\n', mode: 0o4755, mtime },
      { name: 'deep/er/file', content: 'hello', mode: 0o640, mtime },
      { name: 'link', type: 'symlink', linkname: '/etc/passwd', mtime },
      { name: 'hard', type: 'link', linkname: './deep/er/file' },
      { name: `${'long/'.repeat(60)}ü`, content: 'long' },
    ]),
  );
  const workspace = await unpack(archive);
  const tool = await lstat(join(workspace, 'bin/tool'));
  expect([tool.mode & 0o7777, tool.uid, tool.gid, tool.mtimeMs]).toEqual([0o755, 100_000, 100_000, mtime.getTime()]);
  const bin = await lstat(join(workspace, 'bin'));
  expect([bin.mode & 0o7777, bin.uid, bin.mtimeMs]).toEqual([0o750, 100_000, mtime.getTime()]);
  expect((await lstat(join(workspace, 'deep'))).uid).toBe(100_000);
  expect((await lstat(workspace)).mode & 0o7777).toBe(0o755);
  expect(await readlink(join(workspace, 'link'))).toBe('/etc/passwd');
  expect((await lstat(join(workspace, 'link'))).uid).toBe(100_000);
  expect((await lstat(join(workspace, 'hard'))).ino).toBe((await lstat(join(workspace, 'deep/er/file'))).ino);
  expect(await readFile(join(workspace, 'long/'.repeat(60), 'ü'), 'utf8')).toBe('long');
  expect(await sources.has(archive.digest)).toBe(true);
  expect(await leftovers()).toEqual(['1']);
  expect(await sources.layerFor(archive.digest)).toBe(`source-${archive.digest}`);
});

test('what GNU tar packs comes out the same, whatever the format', async () => {
  const { dataDir, unpack } = await openStores();
  const tree = join(dataDir, 'tree');
  await mkdir(join(tree, 'a', 'x'.repeat(120)), { recursive: true });
  await writeFile(join(tree, 'a', 'x'.repeat(120), 'y'.repeat(130)), 'deep');
  await writeFile(join(tree, 'big'), Buffer.alloc(3_000_000, 'caisson '));
  await runProgram(['ln', '-s', 'z'.repeat(150), join(tree, 'far')]);
  const latin = Buffer.concat([Buffer.from(`${tree}/latin-`), Buffer.from([0xe9])]);
  for (const format of ['posix', 'gnu']) {
    // Only pax insists on UTF-8.
    if (format === 'gnu') await writeFile(latin, 'bytes');
    const path = join(dataDir, `${format}.tar.gz`);
    await runProgram(['tar', '-C', tree, '-czf', path, `--format=${format}`, `--mtime=@${format.length}`, '.']);
    const workspace = await unpack(raw(await readFile(path)));
    await runProgram(['diff', '-r', '--no-dereference', tree, workspace]);
  }
});

test('bytes that do not hash to the digest are refused and not kept', async () => {
  const { sources, leftovers } = await openStores();
  const archive = archiveOf(await tarOf([{ name: 'a', content: 'a' }]));
  const other = raw(Buffer.from('other'));
  await expect(sources.put(archive.digest, pieces(other.bytes))).rejects.toMatchObject({
    code: 'blob_digest_mismatch',
  });
  await expect(sources.put('../x', pieces(other.bytes))).rejects.toMatchObject({ code: 'invalid_argument' });
  expect(await sources.has(archive.digest)).toBe(false);
  expect(await leftovers()).toEqual([]);
  await expect(sources.layerFor(archive.digest)).rejects.toMatchObject({ code: 'source_invalid' });
});

test('an upload that breaks off leaves nothing', async () => {
  const { sources, leftovers } = await openStores();
  const broken = (async function* () {
    yield Buffer.from('a');
    throw new Error('connection lost');
  })();
  await expect(sources.put('0'.repeat(64), broken)).rejects.toThrow('connection lost');
  expect(await leftovers()).toEqual([]);
});

test('an archive larger than allowed is refused while it comes in', async () => {
  const { sources, leftovers } = await openStores({ maxArchiveBytes: 5000 });
  const archive = raw(Buffer.alloc(1_000_000));
  await expect(sources.put(archive.digest, pieces(archive.bytes))).rejects.toMatchObject({ code: 'source_invalid' });
  expect(await leftovers()).toEqual([]);
});

test('concurrent callers share one unpacking', async () => {
  const { sources, layers } = await openStores();
  const archive = archiveOf(await tarOf([{ name: 'a', content: 'a' }]));
  await sources.put(archive.digest, pieces(archive.bytes));
  const ids = await Promise.all([1, 2, 3].map(() => sources.layerFor(archive.digest)));
  expect(new Set(ids).size).toBe(1);
  expect(layers.list()).toHaveLength(1);
});

test('an archive nobody asked to unpack for a day is removed', async () => {
  const { dataDir, layers, sources } = await openStores();
  const archive = archiveOf(await tarOf([{ name: 'a', content: 'a' }]));
  await sources.put(archive.digest, pieces(archive.bytes));
  const path = join(dataDir, 'sources', `${archive.digest}.tar.gz`);
  const longAgo = new Date(Date.now() - 25 * 3600_000);
  await utimes(path, longAgo, longAgo);
  const reopened = await createSourceStore({ dataDir, layers });
  expect(await reopened.has(archive.digest)).toBe(false);
});
