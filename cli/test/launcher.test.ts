import { execFile } from 'node:child_process';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const launcher = fileURLToPath(new URL('../../caisson', import.meta.url));
const run = promisify(execFile);

test('the launcher finds its clone through symlinks, from any directory, on its own node', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-launcher-'));
  try {
    await symlink(launcher, join(dir, 'first'));
    await symlink('first', join(dir, 'second'));
    const { stdout, stderr } = await run(join(dir, 'second'), ['version'], { cwd: '/' });
    expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(/^caisson /), stderr: '' });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('the exit code of a command is the one of the launcher', async () => {
  await expect(run(launcher, ['nonsense'])).rejects.toMatchObject({ code: 2 });
});
