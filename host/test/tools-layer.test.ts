import { appendFile, cp, lstat, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runProgram } from '../run-program.ts';
import { createToolsLayer, toolsMountPath, toolsNodeArgv, toolsNodeEnv } from '../tools-layer.ts';
import { tempDir } from './temp-dir.ts';

const pipelineDir = new URL('../../pipeline', import.meta.url).pathname;
const nodeBinary = process.execPath;

/** Runs the tools' Node where there is nothing else: no shell, no libraries, no /proc, no /dev. */
async function runInEmptyRoot(tools: string, args: readonly string[], before: readonly string[] = []): Promise<string> {
  const root = await tempDir();
  await mkdir(join(root, toolsMountPath), { recursive: true });
  const script =
    'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && root=$3 && shift 3 && exec chroot "$root" "$@"';
  const argv = [
    ...before,
    'unshare',
    '--mount',
    'sh',
    '-c',
    script,
    'sh',
    tools,
    join(root, toolsMountPath),
    root,
    ...toolsNodeArgv,
    ...args,
  ];
  return (await runProgram(argv)).stdout;
}

test('node runs in a root with nothing in it, and imports the pipeline sources', async () => {
  const tools = await createToolsLayer({ dataDir: await tempDir(), nodeBinary, pipelineDir });
  const code = `import(${JSON.stringify(`${toolsMountPath}/pipeline/pipeline.ts`)}).then((m) => console.log(process.version, Object.keys(m).includes('pipeline')))`;
  expect(await runInEmptyRoot(tools, ['-e', code])).toBe(`${process.version} true\n`);
});

test('node takes the sources compiled where the tools are mounted', async () => {
  const tools = await createToolsLayer({ dataDir: await tempDir(), nodeBinary, pipelineDir });
  const entry = `${toolsMountPath}/pipeline/render/render-main.ts`;
  const env = Object.entries({ ...toolsNodeEnv, NODE_DEBUG_NATIVE: 'COMPILE_CACHE' }).map(
    ([name, value]) => `${name}=${value}`,
  );
  const said = await runInEmptyRoot(tools, [entry], ['env', ...env]).catch((error) => error.stderr);
  expect(said).toContain(`V8 code cache for ESM file://${entry} was accepted`);
});

test('the launcher works where there is a shell', async () => {
  const tools = await createToolsLayer({ dataDir: await tempDir(), nodeBinary, pipelineDir });
  expect(await readFile(join(tools, 'bin/node'), 'utf8')).toContain('#!/bin/sh');
  expect((await lstat(join(tools, 'bin/node'))).mode & 0o777).toBe(0o755);
  expect(await readdir(tools)).toEqual(['bin', 'compiled', 'lib', 'pipeline']);
  expect(await readdir(join(tools, 'pipeline'))).not.toContain('test');
});

test('the same tools are made once, changed sources make new ones beside the old', async () => {
  const dataDir = await tempDir();
  const sources = join(await tempDir(), 'pipeline');
  await cp(pipelineDir, sources, { recursive: true });
  const options = { dataDir, nodeBinary, pipelineDir: sources };
  const [one, two] = await Promise.all([createToolsLayer(options), createToolsLayer(options)]);
  expect(two).toBe(one);
  await appendFile(join(sources, 'pipeline.ts'), '\n');
  const changed = await createToolsLayer(options);
  expect(changed).not.toBe(one);
  expect((await readdir(join(dataDir, 'tools'))).length).toBe(2);
});

test('a binary that is not there is said so', async () => {
  const made = createToolsLayer({ dataDir: await tempDir(), nodeBinary: '/nowhere/node', pipelineDir });
  await expect(made).rejects.toMatchObject({
    code: 'tools_unavailable',
    message: expect.stringContaining('/nowhere/node'),
  });
});
