import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';
import { createSourceStore } from '../source-store.ts';
import { type Archive, type ArchiveEntry, archiveOf, patchedHeader, pieces, raw, tarOf } from './source-archive.ts';
import { tempDir } from './temp-dir.ts';

const limits = { maxUnpackedBytes: 100_000_000, maxEntries: 1000, maxRatio: 50 };

async function openStores() {
  const dataDir = await tempDir();
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e9 });
  const sources = await createSourceStore({ dataDir, layers, limits });
  await mkdir(join(dataDir, 'sentinel'));
  await writeFile(join(dataDir, 'sentinel', 'file'), 'untouched');
  const unpack = async (archive: Archive) => {
    await sources.put(archive.digest, pieces(archive.bytes, 4096));
    return sources.layerFor(archive.digest);
  };
  return { dataDir, layers, sources, unpack };
}

async function expectNothingLeft(dataDir: string): Promise<void> {
  expect((await readdir(dataDir)).sort()).toEqual(['layers', 'sentinel', 'sources']);
  expect(await readdir(join(dataDir, 'sentinel'))).toEqual(['file']);
  expect(await readdir(join(dataDir, 'layers'))).toEqual([]);
  expect(await readdir(join(dataDir, 'sources'))).toEqual([]);
}

const victim = '../../../sentinel/file';
const refused: readonly (readonly [string, readonly ArchiveEntry[], RegExp])[] = [
  ['an absolute name', [{ name: '/tmp/x', content: 'x' }], /"\/tmp\/x" has an absolute name/],
  ['a name that climbs', [{ name: 'a/../../x', content: 'x' }], /"a\/..\/..\/x" leads out/],
  [
    'a file through a symlink',
    [
      { name: 's', type: 'symlink', linkname: '..' },
      { name: 's/x', content: 'x' },
    ],
    /"s\/x" leads through the symlink "s"/,
  ],
  [
    'a directory through a symlink',
    [
      { name: 's', type: 'symlink', linkname: '/' },
      { name: 's/x/', type: 'directory' },
    ],
    /through the symlink/,
  ],
  [
    'a symlink that turns into a directory',
    [
      { name: 's', type: 'symlink', linkname: '/' },
      { name: 's/', type: 'directory' },
    ],
    /"s" is there twice/,
  ],
  [
    'a file through a file',
    [
      { name: 'f', content: 'f' },
      { name: 'f/x', content: 'x' },
    ],
    /through the file "f"/,
  ],
  [
    'a symlink over a file',
    [
      { name: 'f', content: 'f' },
      { name: 'f', type: 'symlink', linkname: 'x' },
    ],
    /"f" is there twice/,
  ],
  ['a hard link out of the tree', [{ name: 'h', type: 'link', linkname: victim }], /leads out of the tree/],
  ['a hard link to an absolute name', [{ name: 'h', type: 'link', linkname: '/etc/passwd' }], /absolute name/],
  [
    'a hard link through a symlink',
    [
      { name: 's', type: 'symlink', linkname: '/' },
      { name: 'h', type: 'link', linkname: 's/etc/passwd' },
    ],
    /is no earlier file/,
  ],
  [
    'a hard link to a directory',
    [
      { name: 'd', type: 'directory' },
      { name: 'h', type: 'link', linkname: 'd' },
    ],
    /is no earlier file/,
  ],
  [
    'a hard link to nothing',
    [
      { name: 'h', type: 'link', linkname: 'later' },
      { name: 'later', content: 'x' },
    ],
    /is no earlier file/,
  ],
  [
    'a file twice',
    [
      { name: 'f', content: '1' },
      { name: './f', content: '2' },
    ],
    /"f" is there twice/,
  ],
  [
    'a character device',
    [{ name: 'null', type: 'character-device', devmajor: 1, devminor: 3 }],
    /"null" is a character-device/,
  ],
  ['a block device', [{ name: 'sda', type: 'block-device', devmajor: 8, devminor: 0 }], /"sda" is a block-device/],
  ['a fifo', [{ name: 'pipe', type: 'fifo' }], /"pipe" is a fifo/],
  ['a root that is a symlink', [{ name: '.', type: 'symlink', linkname: '/etc' }], /stands for the root/],
  ['a name that is too long', [{ name: 'n'.repeat(256), content: 'x' }], /too long a name/],
  ['a path that is too long', [{ name: 'n/'.repeat(2000), type: 'directory' }], /too long a name/],
  ['more entries than allowed', Array.from({ length: 1001 }, (_, n) => ({ name: `f${n}` })), /more than 1000 entries/],
  [
    'more implied directories than allowed',
    'abcdef'.split('').map((n) => ({ name: `${n}/${'b/'.repeat(200)}x` })),
    /one directory too many/,
  ],
  ['a path that is too deep', [{ name: `${'d/'.repeat(256)}x`, content: 'x' }], /too long a name/],
  ['a pax name that is not UTF-8', [{ name: 'f', content: 'x', pax: { path: 'a\ufffd' } }], /not UTF-8/],
  ['a sparse file', [{ name: 's', content: 'x', pax: { 'GNU.sparse.major': '1' } }], /"s" is a sparse file/],
  ['a zero byte in a pax name', [{ name: 'f', content: 'x', pax: { path: 'a\0b' } }], /zero byte/],
  ['a pax size below zero', [{ name: 'f', content: 'x', pax: { size: '-5' } }], /damaged|size/],
  ['a pax size beyond all', [{ name: 'f', content: 'x', pax: { size: '99999999999999999999' } }], /damaged|size/],
  ['a pax size that is no number', [{ name: 'f', content: 'x', pax: { size: 'NaN' } }], /damaged|size/],
  ['a pax path that climbs', [{ name: 'f', content: 'x', pax: { path: victim } }], /leads out of the tree/],
];

test.each(refused)('%s is refused by name, and nothing is left', async (_, entries, message) => {
  const { dataDir, unpack } = await openStores();
  const ordinary = Array.from({ length: 20 }, (_, n) => ({ name: `ordinary/${n}`, content: 'x' }));
  const failure = await unpack(archiveOf(await tarOf([...ordinary, ...entries]))).catch((error) => error);
  expect(failure).toMatchObject({ code: 'source_invalid', message: expect.stringMatching(message) });
  await expectNothingLeft(dataDir);
});

test('damaged bytes are refused, and nothing is left', async () => {
  const { dataDir, unpack } = await openStores();
  const tar = await tarOf([
    { name: 'a', content: 'a'.repeat(3000) },
    { name: 'b', content: 'b'.repeat(3000) },
  ]);
  const zipped = gzipSync(tar);
  const damaged: readonly Archive[] = [
    raw(Buffer.alloc(0)),
    raw(Buffer.from('this is no archive at all')),
    raw(tar),
    raw(zipped.subarray(0, zipped.length / 2)),
    raw(zipped.subarray(0, -4)),
    archiveOf(Buffer.from('neither is this'.repeat(100))),
    archiveOf(tar.subarray(0, 2000)),
    archiveOf(tar.subarray(0, 600)),
    archiveOf(patchedHeader(tar, 0, [[124, '77777777777\0']])),
    archiveOf(patchedHeader(tar, 0, [[156, '?']])),
    archiveOf(patchedHeader(tar, 0, [[156, 'S']])),
    archiveOf(
      patchedHeader(tar, 0, [
        [124, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
      ]),
    ),
  ];
  for (const archive of damaged) {
    await expect(unpack(archive)).rejects.toMatchObject({ code: 'source_invalid' });
    await expectNothingLeft(dataDir);
  }
});

test('a sparse file as GNU tar packs it is refused in every format, and nothing is left', async () => {
  const { dataDir, unpack } = await openStores();
  const tree = await tempDir();
  await writeFile(join(tree, 'sparse'), 'x');
  await truncate(join(tree, 'sparse'), 2 ** 40);
  for (const format of ['gnu', 'oldgnu', 'posix']) {
    const path = join(tree, `${format}.tar.gz`);
    await runProgram(['tar', '-C', tree, '--sparse', `--format=${format}`, '-czf', path, 'sparse']);
    await expect(unpack(raw(await readFile(path)))).rejects.toMatchObject({ code: 'source_invalid' });
    await expectNothingLeft(dataDir);
  }
});

test('an archive that unpacks to far more than it is gets refused early', async () => {
  const { dataDir, unpack } = await openStores();
  const bomb = archiveOf(await tarOf([{ name: 'zeros', content: Buffer.alloc(90_000_000) }]));
  await expect(unpack(bomb)).rejects.toThrow('more than 50 times its size');
  await expectNothingLeft(dataDir);
});

const names = fc.constantFrom(
  'a',
  'b',
  'a/b',
  'a/b/c',
  './a',
  'a//b',
  '..',
  '../sentinel/file',
  '/abs',
  'a/../b',
  '',
  '.',
  'ü',
  'b/',
  victim,
);
const entries = fc.record(
  {
    name: names,
    type: fc.constantFrom('file' as const, 'directory' as const, 'symlink' as const, 'link' as const, 'fifo' as const),
    linkname: fc.oneof(names, fc.constantFrom('/etc', '../../..')),
    mode: fc.nat(0o7777),
    content: fc.uint8Array({ maxLength: 2000 }),
    pax: fc.dictionary(
      fc.constantFrom('path', 'linkpath', 'size', 'mtime', 'GNU.sparse.major'),
      fc.oneof(names, fc.nat().map(String)),
      { maxKeys: 2 },
    ),
  },
  { requiredKeys: ['name', 'type', 'linkname'] },
);

/** What anybody packs: without some of these hardly any archive would be unpacked, and nothing shown by it. */
const harmless = fc.record({
  name: fc.constantFrom('file', 'other file', 'ü'),
  type: fc.constant('file' as const),
  linkname: fc.constant(''),
  content: fc.uint8Array({ maxLength: 2000 }),
});

test('random archives, whole or damaged, never write outside and never fail in another way', async () => {
  const { dataDir, layers, unpack } = await openStores();
  const damage = fc.record({ at: fc.nat(), byte: fc.nat(255) });
  let passed = 0;
  const property = fc.asyncProperty(
    fc.oneof(
      { weight: 3, arbitrary: fc.array(entries, { maxLength: 6 }) },
      { weight: 1, arbitrary: fc.uniqueArray(harmless, { maxLength: 3, selector: ({ name }) => name }) },
    ),
    fc.option(damage),
    fc.boolean(),
    async (list, hurt, late) => {
      const tar = await tarOf(
        list.map(({ content, ...e }) => ({ ...e, ...(e.type === 'file' && content ? { content } : {}) })),
      );
      if (hurt !== null && !late) tar[hurt.at % tar.length] = hurt.byte;
      const zipped = gzipSync(tar);
      if (hurt !== null && late) zipped[hurt.at % zipped.length] = hurt.byte;
      try {
        await layers.release(await unpack(raw(zipped)));
        await layers.collect();
        passed++;
      } catch (error) {
        expect(error).toMatchObject({ code: 'source_invalid' });
      }
      await expectNothingLeft(dataDir);
    },
  );
  await fc.assert(property, { numRuns: 400 });
  expect(passed).toBeGreaterThan(10);
});
