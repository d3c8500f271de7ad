import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cpioArchive } from '../cpio-archive.ts';
import { runProgram } from '../run-program.ts';
import { tempDir } from './temp-dir.ts';

test('an archive unpacks to the files and modes that went in', async () => {
  const dir = await tempDir();
  const sizes = [0, 1, 2, 3, 4, 5];
  const files = sizes.map((size) => ({
    path: `modules/${'n'.repeat(size + 1)}`,
    mode: 0o640,
    bytes: Buffer.alloc(size, 'x'),
  }));
  const program = { path: 'init', mode: 0o755, bytes: Buffer.from('#!/bin/sh\n') };
  const archive = cpioArchive([{ path: 'modules', mode: 0o755 }, ...files, program]);
  await runProgram(['busybox', 'cpio', '-i', '-d'], { cwd: dir, stdin: archive });
  for (const { path, bytes } of [...files, program]) expect(await readFile(join(dir, path))).toEqual(bytes);
  const { stdout } = await runProgram(['stat', '-c', '%a %F', join(dir, 'init'), join(dir, 'modules')]);
  expect(stdout).toBe('755 regular file\n755 directory\n');
});
