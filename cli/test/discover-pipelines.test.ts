import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { discoverPipelines, renderLocally } from '../discover-pipelines.ts';

const head = `import { pipeline, sh } from '@caisson/pipeline';\n`;

function repository(content: string): string {
  const root = mkdtempSync(join(tmpdir(), 'caisson-discover-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, '.caisson'));
  writeFileSync(join(root, '.caisson/ci.ts'), content);
  return root;
}

test('a pipeline is rendered in a process of its own, what it prints goes to the log', async () => {
  const log = new PassThrough();
  const root = repository(`${head}console.log('printed');\nexport default pipeline([sh('make', { key: 'm' })]);`);
  const ir = await renderLocally(root, null, { log });
  log.end();
  expect(ir.graph.nodes.map(({ step }) => step.key)).toEqual(['m']);
  expect(await text(log)).toBe('printed\n');
  expect((await discoverPipelines(root)).pipelines).toMatchObject([{ slug: 'ci', definition: ir }]);
});

test('a mistake is an invalid pipeline with the place where it was made', async () => {
  await expect(renderLocally(repository(`${head}\nexport default pipeline([]);`), null)).rejects.toMatchObject({
    code: 'pipeline_invalid',
    exitCode: 7,
    message: expect.stringMatching(/^\.caisson\/ci\.ts:3:\d+: pipeline\(\): there is nothing to run/),
  });
});

test('a pipeline file that never ends is ended, with its output bounded', async () => {
  const log = new PassThrough();
  const root = repository(`while (true) console.log('spam'.repeat(1000));`);
  const output = text(log);
  await expect(renderLocally(root, null, { timeoutMs: 1500, log })).rejects.toThrow('took more than 1.5 s');
  log.end();
  expect((await output).length).toBeLessThan(1024 * 1024 + 200_000);
});

test('what a pipeline file leaves running does not hold the answer back', async () => {
  const root = repository(`${head}import { spawn } from 'node:child_process';
const child = spawn('sleep', ['60'], { stdio: 'inherit', detached: true });
child.unref();
export default pipeline([sh(String(child.pid))]);`);
  const ir = await renderLocally(root, null);
  const pid = Number(ir.graph.nodes[0]?.step.cmd);
  expect(process.kill(pid, 'SIGKILL')).toBe(true);
});
