import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { type PackOptions, packSource, writeSourceArchive } from '../source-archive.ts';

function temporaryTree(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(realpathSync(tmpdir()), 'caisson-source-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  const folders = new Set(Object.keys(files).map((path) => dirname(path)));
  for (const folder of folders) mkdirSync(join(root, folder), { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    writeFileSync(join(root, path), content);
  }
  return root;
}

async function packWhole(folder: string, options?: PackOptions) {
  const { stream, summary } = packSource(folder, options);
  const bytes = await buffer(stream);
  return { bytes, ...(await summary) };
}

function listArchive(bytes: Buffer): readonly string[] {
  return execFileSync('tar', ['-tz'], { input: bytes, encoding: 'utf8' }).split('\n').filter(Boolean);
}

const pathsIn = async (folder: string, options?: PackOptions) => listArchive((await packWhole(folder, options)).bytes);

test('equal trees have equal digests, whatever their times, owners and file modes but for the executable bit', async () => {
  const files = { 'b/c.txt': 'C', 'a.sh': '#!/bin/sh\n', 'B.txt': '' };
  const [one, two] = [temporaryTree(files), temporaryTree(files)];
  utimesSync(join(two, 'B.txt'), 1, 1);
  chmodSync(join(two, 'B.txt'), 0o600);
  const first = await packWhole(one);
  expect(await packWhole(two)).toEqual(first);
  expect(first).toMatchObject({ sizeBytes: first.bytes.length, fileCount: 3, warnings: [] });
  expect(first.digest).toBe(createHash('sha256').update(first.bytes).digest('hex'));
  expect(listArchive(first.bytes)).toEqual(['B.txt', 'a.sh', 'b/c.txt']);
  chmodSync(join(two, 'a.sh'), 0o755);
  expect((await packWhole(two)).digest).not.toBe(first.digest);
});

test('what comes out is what went in: bytes, executable bits, links, long and odd names', async () => {
  const long = `${'deep/'.repeat(40)}${'x'.repeat(120)}.txt`;
  const root = temporaryTree({ [long]: 'long', 'naïve file.txt': 'odd', 'run.sh': 'echo' });
  chmodSync(join(root, 'run.sh'), 0o700);
  writeFileSync(join(root, 'big.bin'), Buffer.alloc(5_000_000, 'caisson'));
  symlinkSync('run.sh', join(root, 'link'));
  symlinkSync('/etc', join(root, 'outside'));
  symlinkSync('.', join(root, 'circle'));
  const archive = join(temporaryTree({}), 'source.tgz');
  const summary = await writeSourceArchive(root, archive);
  expect(summary.fileCount).toBe(7);
  const out = temporaryTree({});
  execFileSync('tar', ['-xzf', archive, '-C', out]);
  expect(execFileSync('diff', ['-r', '--no-dereference', root, out], { encoding: 'utf8' })).toBe('');
  const listing = execFileSync('tar', ['-tvzf', archive], { encoding: 'utf8' });
  expect(listing).toMatch(/^-rwxr-xr-x 0\/0 .* 2000-01-01 .* run\.sh$/m);
  expect(listing).toMatch(/^lrwxrwxrwx .* outside -> \/etc$/m);
  await expect(writeSourceArchive(root, archive)).rejects.toThrow('EEXIST');
});

test('rules of nested .gitignore files, negations and anchors hold as in git', async () => {
  const files = {
    '.gitignore': '*.log\n/dist/\nnode_modules\n# comment\n\ntmp/*\n!tmp/keep\nodd\\ name\n',
    'a.log': '',
    'src/b.log': '',
    'src/.gitignore': '!important.log\n/only-here\nlib/*\n!lib/kept/\n',
    'src/important.log': '',
    'src/only-here': '',
    'src/deep/only-here': '',
    'src/lib/dropped/x': '',
    'src/lib/kept/x': '',
    'src/lib/kept/y.log': '',
    'dist/out.js': '',
    'src/dist/out.js': '',
    'node_modules/p/index.js': '',
    'src/node_modules/p/index.js': '',
    'tmp/gone': '',
    'tmp/keep': '',
    'odd name': '',
    'we[i]rd/.gitignore': 'inner/*.c\n',
    'we[i]rd/inner/a.c': '',
    'we[i]rd/inner/a.h': '',
  };
  const root = temporaryTree(files);
  execFileSync('git', ['init', '-q', root]);
  const expected = execFileSync('git', ['-C', root, 'ls-files', '-o', '--exclude-standard', '-z'], {
    encoding: 'utf8',
  });
  expect(await pathsIn(root)).toEqual(expected.split('\0').filter(Boolean).sort());
});

test('info/exclude counts, .caissonignore adds rules and takes rules back, and .git never travels', async () => {
  const root = temporaryTree({
    '.gitignore': 'build/\n',
    '.caissonignore': 'fixtures/\n!build/\n',
    'build/out': '',
    'fixtures/huge': '',
    'secret.env': '',
    kept: '',
    'sub/.git': 'gitdir: ../.git/modules/sub\n',
    'sub/file': '',
  });
  execFileSync('git', ['init', '-q', root]);
  writeFileSync(join(root, '.git/info/exclude'), '*.env\n');
  expect(await pathsIn(root)).toEqual(['.caissonignore', '.gitignore', 'build/out', 'kept', 'sub/file']);
});

test('a folder inside a repository is under its rules; a folder they drop stands for itself', async () => {
  const root = temporaryTree({
    '.gitignore': '*.log\n/app/out/\nscratch/\n',
    'app/.caisson/pipeline.ts': '',
    'app/a.log': '',
    'app/out/x': '',
    'scratch/kept/file': '',
    'scratch/kept/.gitignore': '*.o\n',
    'scratch/kept/a.o': '',
  });
  execFileSync('git', ['init', '-q', root]);
  expect(await pathsIn(join(root, 'app'))).toEqual(['.caisson/pipeline.ts']);
  expect(await pathsIn(join(root, 'scratch/kept'))).toEqual(['.gitignore', 'file']);
});

test('info/exclude of the main working tree counts in a linked one', async () => {
  const root = temporaryTree({ 'main/a': '' });
  const git = (...words: readonly string[]) =>
    execFileSync('git', [
      '-C',
      join(root, 'main'),
      '-c',
      'user.name=t',
      '-c',
      'user.email=t@example.invalid',
      ...words,
    ]);
  git('init', '-q');
  git('add', '.');
  git('commit', '-qm', 'a');
  git('worktree', 'add', '-q', '../linked');
  writeFileSync(join(root, 'main/.git/info/exclude'), '*.env\n');
  writeFileSync(join(root, 'linked/b.env'), '');
  expect(await pathsIn(join(root, 'linked'))).toEqual(['a']);
});

test('pipeline files travel even when a rule drops their folder', async () => {
  const root = temporaryTree({ '.gitignore': '.*\n', '.caisson/ci.ts': '', '.hm/ci.ts': '', '.cache/x': '' });
  expect(await pathsIn(root)).toEqual(['.caisson/ci.ts', '.hm/ci.ts']);
});

test('excluded paths stay, sockets, pipes and unreadable files are left out with a warning', async () => {
  const root = temporaryTree({ a: '', 'data/x': '' });
  execFileSync('mkfifo', [join(root, 'fifo')]);
  const server = createServer().listen(join(root, 'socket'));
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const { bytes, warnings } = await packWhole(root, { exclude: [join(root, 'data')] });
  expect(listArchive(bytes)).toEqual(['a']);
  expect(warnings).toEqual(['fifo: left out, it is a pipe', 'socket: left out, it is a socket']);
});

test('a file that vanishes is left out, one that shrinks fails the archive', async () => {
  const root = temporaryTree({ a: '1', b: '2' });
  const vanishing = packSource(root);
  rmSync(join(root, 'b'));
  const [, summary] = await Promise.all([buffer(vanishing.stream), vanishing.summary]);
  expect(summary.warnings).toEqual(['b: left out, it cannot be read (ENOENT)']);

  writeFileSync(join(root, 'big'), Buffer.alloc(200_000_000));
  const shrinking = packSource(root);
  const bytes = buffer(shrinking.stream);
  await once(shrinking.stream, 'readable');
  truncateSync(join(root, 'big'), 10);
  await expect(bytes).rejects.toThrow();
  await expect(shrinking.summary).rejects.toThrow('big shrank while it was packed');
});

test('a folder that does not exist is refused', () => {
  expect(() => packSource('/nonexistent-folder')).toThrow('ENOENT');
});

test('10,000 files are packed, each once', async () => {
  const files = Array.from({ length: 10_000 }, (_, index) => [
    `d${index % 100}/f${index}.ts`,
    `export const n = ${index};`,
  ]);
  const root = temporaryTree(Object.fromEntries(files));
  expect((await packWhole(root)).fileCount).toBe(10_000);
});
