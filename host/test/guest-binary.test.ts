import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { buildAgent } from '../guest-binary.ts';

const run = promisify(execFile);

test('the agent is built once, however many ask at a time', async () => {
  const paths = await Promise.all([buildAgent(), buildAgent(), buildAgent()]);
  expect(new Set(paths).size).toBe(1);
  const before = await stat(paths[0] ?? '');
  expect(before.mode & 0o111).not.toBe(0);
  expect(await buildAgent()).toBe(paths[0]);
  expect((await stat(paths[0] ?? '')).mtimeMs).toBe(before.mtimeMs);
});

test('without a compiler the error says what to install', async () => {
  const script = `
    import { buildAgent } from ${JSON.stringify(new URL('../guest-binary.ts', import.meta.url).href)};
    await buildAgent().catch((error) => console.log(error.code + ': ' + error.message));`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: '/nonexistent' },
  });
  expect(stdout).toMatch(/^tools_unavailable: .*musl-tools/);
});
