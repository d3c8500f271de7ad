import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withFileLock } from '../image-lock.ts';
import { tempDir } from './temp-dir.ts';

const lockModule = new URL('../image-lock.ts', import.meta.url).href;
const { signal } = new AbortController();

test('one at a time gets in', async () => {
  const path = join(await tempDir(), 'lock');
  let inside = 0;
  let most = 0;
  const visit = () =>
    withFileLock(path, signal, async () => {
      most = Math.max(most, ++inside);
      await new Promise((resolve) => setImmediate(resolve));
      inside--;
    });
  await Promise.all([visit(), visit(), visit()]);
  expect(most).toBe(1);
});

test('the lock of a killed process is free', async () => {
  const path = join(await tempDir(), 'lock');
  const script = `import { withFileLock } from ${JSON.stringify(lockModule)};
    await withFileLock(${JSON.stringify(path)}, new AbortController().signal, async () => { console.log('held'); await new Promise((r) => setTimeout(r, 1e8)); });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const waiting = withFileLock(path, signal, async () => 'free');
  child.kill('SIGKILL');
  expect(await waiting).toBe('free');
});

test('a caller that gives up stops waiting, and what fails inside comes out', async () => {
  const path = join(await tempDir(), 'lock');
  await withFileLock(path, signal, async () => {
    const impatient = new AbortController();
    const waiting = withFileLock(path, impatient.signal, async () => 'never');
    impatient.abort(new Error('too long'));
    await expect(waiting).rejects.toThrow('too long');
  });
  await expect(withFileLock(path, signal, () => Promise.reject(new Error('inside')))).rejects.toThrow('inside');
});
