import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { temporaryRepository } from './temporary-repository.ts';

const entry = fileURLToPath(new URL('../render/render-main.ts', import.meta.url));
const head = `import { pipeline, sh } from '@caisson/pipeline';\n`;
const one = `${head}export default pipeline([sh('echo hi')]);\n`;

interface Rendered {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function render(root: string, ...words: readonly string[]): Rendered {
  return run(['node', entry, root, ...words]);
}

/** Through a shell, so that both outputs are plain pipes as they are in a capsule. */
function run(words: readonly string[]): Rendered {
  const command = `${words.map((word) => `'${word.replace(/^node$/, process.execPath)}'`).join(' ')} 2> >(cat >&2) | cat; exit "\${PIPESTATUS[0]}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, FROM_ENV: 'from env' },
  });
  return { code: status, stdout, stderr };
}

function renderFile(content: string, ...words: readonly string[]): Rendered {
  return render(temporaryRepository({ '.caisson/ci.ts': content }), ...words);
}

describe('what is rendered', () => {
  test('is the IR with cache keys, and nothing else on stdout', () => {
    const root = temporaryRepository({
      'package-lock.json': '{}\n',
      '.hm/pipeline.ts': `import { pipeline, sh, ttl, onChange, Step } from '@harmont/hm';
const base: Step = sh('apt-get update && apt-get install -y make', { label: ':apt: base', cache: ttl(86400) });
const deps = base.sh('npm ci', { label: ':node: deps', cache: onChange('package-lock.json') });
export default [{ slug: 'ci', pipeline: pipeline([deps.sh('npm test', { label: 'test' })], { defaultImage: 'ubuntu:24.04' }) }];`,
    });
    const { code, stdout, stderr } = render(root, '--now', '1750000000', '--org', 'acme');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { nodes } = JSON.parse(stdout).graph;
    expect(nodes.map(({ step }: { step: { cache?: { key: string } } }) => step.cache?.key)).toEqual([
      '3dcfca7073b0e9afd1a299174b95a391db27b310fae1a6c303c1a8f1bf280589',
      '7eb68fc6db63ace700f4427e0ca201600e5c7bcc8083dcb97513f62a23717615',
      undefined,
    ]);
  });

  test('has the known keys for a step without and with an image', () => {
    const keyOf = (image: string) =>
      JSON.parse(
        renderFile(`import { forever, pipeline, sh } from '@caisson/pipeline';
export default [{ slug: 'default', pipeline: pipeline([sh('echo hi', { key: 'a', cache: forever()${image} })]) }];`)
          .stdout,
      ).graph.nodes[0].step.cache.key;
    expect(keyOf('')).toBe('699a74c52ae57877290f09ea576715568d70ce7ed0ec6ef601aefca205ea3fb3');
    expect(keyOf(`, image: 'ubuntu:24.04'`)).toBe('246e31926c2a4004dcf7108974d027d5d9fbccfe78edb8a228c2358737fb9c1f');
  });

  test('stays clean whatever way the file prints', () => {
    const { stdout, stderr } = renderFile(`import { execSync } from 'node:child_process';
import { writeSync } from 'node:fs';
console.log('by console');
process.stdout.write('by stream\\n');
execSync('echo by child', { stdio: 'inherit' });
writeSync(1, 'by descriptor\\n');
${one}`);
    expect(JSON.parse(stdout).version).toBe('0');
    for (const way of ['console', 'stream', 'child', 'descriptor']) expect(stderr).toContain(`by ${way}\n`);
  });

  test('does not need the package.json around it, nor endings on imports', () => {
    const root = temporaryRepository({
      'package.json': '{ "type": "commonjs" }',
      '.caisson/steps/index.ts': `import { sh } from '@caisson/pipeline';\nexport const make = (what: string) => sh(what);`,
      '.caisson/name.ts': `export const name: string = 'made';`,
      '.caisson/ci.ts': `import { env, pipeline } from '@caisson/pipeline';
import { make } from './steps';
import { name } from './name.js';
export default pipeline([make(name + ' ' + env('FROM_ENV') + env('NOT_SET', '!'))]);`,
    });
    const { stdout, stderr } = render(root);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout).graph.nodes[0].step.cmd).toBe('made from env!');
  });

  test('does not need the clone around the tools', () => {
    const root = temporaryRepository({ 'work/.caisson/ci.ts': one });
    cpSync(fileURLToPath(new URL('..', import.meta.url)), join(root, 'tools'), { recursive: true });
    const { stdout } = run(['node', join(root, 'tools/render/render-main.ts'), join(root, 'work')]);
    expect(JSON.parse(stdout).graph.nodes).toHaveLength(1);
  });

  test('is larger than a pipe', () => {
    const { stdout } = renderFile(
      `${head}export default pipeline(Array.from({ length: 1000 }, (_, i) => sh('echo ' + 'x'.repeat(500) + i)));`,
    );
    expect(JSON.parse(stdout).graph.nodes).toHaveLength(1000);
  });
});

describe('which pipeline', () => {
  const two = {
    '.hm/b.ts': `${head}export const pipelines = [{ slug: 'nightly', allowManual: false, pipeline: pipeline([sh('b')]) }];`,
    '.caisson/ci.ts': `import { pipeline, pullRequest, push, sh } from '@caisson/pipeline';
export default [{ slug: 'ci', name: 'All', triggers: [push({ branch: 'main' }), pullRequest()], pipeline: pipeline([sh('a')]) }];`,
    '.caisson/lib.ts': `console.log('helper read');`,
    '.caisson/ci.test.ts': `throw new Error('not a pipeline file');`,
  };

  test('all of them, in an envelope', () => {
    const { stdout } = render(temporaryRepository(two), '--list');
    const definition = { version: '0', graph: { nodes: [{ step: { cmd: expect.any(String) } }] } };
    expect(JSON.parse(stdout)).toMatchObject({
      schema_version: '1',
      pipelines: [
        {
          slug: 'ci',
          name: 'All',
          allow_manual: true,
          triggers: [
            { event: 'push', branches: ['main'] },
            { event: 'pull_request', branches: [], types: ['opened', 'synchronize', 'reopened'] },
          ],
          definition,
        },
        { slug: 'nightly', name: 'nightly', allow_manual: false, triggers: [], definition },
      ],
    });
  });

  test('the one that is named', () => {
    const { stdout } = render(temporaryRepository(two), 'nightly');
    expect(JSON.parse(stdout).graph.nodes[0].step.cmd).toBe('b');
  });

  test('the preferred one where several could be meant, and the only one whatever is preferred', () => {
    const { stdout } = render(temporaryRepository(two), '--prefer', 'nightly');
    expect(JSON.parse(stdout).graph.nodes[0].step.cmd).toBe('b');
    expect(renderFile(one, '--prefer', 'nightly').code).toBe(0);
    expect(render(temporaryRepository(two), '--prefer', 'x').code).toBe(1);
  });

  test('not one that is left open or does not exist', () => {
    const root = temporaryRepository(two);
    expect(render(root)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('name one of: ci, nightly.'),
    });
    expect(render(root, 'x').stderr).toContain('there is no pipeline "x"; this repository has: ci, nightly.');
  });

  test('a bare pipeline is called after its file', () => {
    const root = temporaryRepository({ '.caisson/Build and test.ts': one });
    expect(JSON.parse(render(root, '--list').stdout).pipelines[0].slug).toBe('build-and-test');
  });
});

describe('what goes wrong is said in one place, with file and line', () => {
  const cases: Readonly<Record<string, readonly [content: string, message: RegExp]>> = {
    'a syntax error': [
      `${head}\nexport default pipeline([sh('a')\n`,
      /^\.caisson\/ci\.ts:\d: SyntaxError: Expected ','/,
    ],
    'a syntax error within a line': [
      `${head}const a = (;`,
      /^\.caisson\/ci\.ts:2: SyntaxError: .*\n(?:.*\n)*const a = \(;\n +\^/,
    ],
    'a name used twice, which Node reports without a line': [
      `const a = 1;\nconst a = 2;`,
      /^\.caisson\/ci\.ts: SyntaxError: Identifier 'a'/,
    ],
    'an enum': [
      `${head}enum A { B }\nexport default pipeline([sh('a')]);`,
      /^\.caisson\/ci\.ts:2: .*Types are stripped/,
    ],
    'a thrown error': [
      `\nconst check = () => {\n  throw new Error('boom', { cause: new TypeError('deep') });\n};\ncheck();`,
      /^\.caisson\/ci\.ts:3:9: boom\ncaused by: .*TypeError: deep\n$/,
    ],
    'something else thrown': [`throw 'only text';`, /^\.caisson\/ci\.ts: threw only text\n$/],
    'a mistake in the pipeline': [
      `${head}\nexport default pipeline([sh('a', { label: 'A', timeout: 'soon' })]);`,
      /^\.caisson\/ci\.ts:3:\d+: timeout of step "A": "soon" is not a duration/,
    ],
    'a rejection nobody handles': [
      `void Promise.reject(new Error('lost'));\nawait new Promise((done) => setTimeout(done, 1000));`,
      /ci\.ts:1:21: lost/,
    ],
    'a process that ends itself': [`process.exit(0);`, /before it exported a pipeline/],
    'a wait for nothing': [`await new Promise(() => {});`, /before it exported a pipeline/],
    'no export': [`export const x = 1;`, /\.caisson\/ci\.ts: no pipeline is exported/],
    'an export of something else': [`export default { steps: [] };`, /\.caisson\/ci\.ts: export a pipeline/],
    'a bad slug': [
      `${head}export default [{ slug: 'No', pipeline: pipeline([sh('a')]) }];`,
      /\.caisson\/ci\.ts: "No" is not a slug/,
    ],
    'a slug that is used twice': [
      `${head}const p = pipeline([sh('a')]);\nexport default [{ slug: 'a', pipeline: p }, { slug: 'a', pipeline: p }];`,
      /two pipelines are called "a"/,
    ],
    'a package': [`import 'left-pad';`, /cannot import "left-pad".*no packages are installed/],
    toolchains: [`import { rust } from '@harmont/hm/toolchains';`, /cannot import "@harmont\/hm\/toolchains"/],
    'a type imported as a value': [
      `import { PipelineDefinition } from '@caisson/pipeline';`,
      /^\.caisson\/ci\.ts:1: .*import type \{ PipelineDefinition \}/,
    ],
    'a file that is missing': [
      `import './nothing.ts';`,
      /Cannot find module '\.caisson\/nothing\.ts' imported from \.caisson\/ci\.ts/,
    ],
    'a cached step on one that is not': [
      `import { forever, pipeline, sh } from '@caisson/pipeline';\nexport default pipeline([sh('a', { key: 'a' }).sh('b', { key: 'b', cache: forever() })]);`,
      /step "b" is cached but starts from step "a"/,
    ],
  };
  for (const [title, [content, message]] of Object.entries(cases)) {
    test(title, () => {
      const { code, stdout, stderr } = renderFile(content);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(message);
      expect(stderr).not.toContain('node:internal');
    });
  }

  test('a repository without pipelines, with Python only, and one that does not exist', () => {
    expect(render(temporaryRepository({ 'a.txt': '' })).stderr).toContain('no pipeline file found');
    expect(render(temporaryRepository({ '.hm/pipeline.py': '' })).stderr).toContain(
      '.hm/pipeline.py is written in Python',
    );
    expect(render('/nonexistent-repository').stderr).toContain('does not exist');
  });

  test('pipeline files that are links in a circle, or folders', () => {
    const root = temporaryRepository({ '.caisson/a.ts': one });
    symlinkSync('loop.ts', join(root, '.caisson/loop.ts'));
    expect(render(root).stderr).toContain('.caisson/loop.ts cannot be read');
    const folder = temporaryRepository({ '.caisson/a.ts': one });
    mkdirSync(join(folder, '.caisson/b.ts'));
    expect(render(folder).code).toBe(0);
  });
});

test('output without end does not reach the answer', () => {
  const root = temporaryRepository({ '.caisson/ci.ts': `while (true) console.log('spam'.repeat(100));` });
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['-c', `timeout -s KILL 1 '${process.execPath}' '${entry}' . 2> >(cat >&2) | cat; exit "\${PIPESTATUS[0]}"`],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1024 * 1024 * 1024,
    },
  );
  expect(status).toBe(137);
  expect(stdout.length).toBe(0);
  expect(stderr.length).toBeGreaterThan(0);
}, 20_000);

test('the examples of this repository can be rendered', () => {
  for (const [folder, steps] of [
    ['examples/hello', 4],
    ['examples/monorepo', 15],
    ['examples/postgres-forks', 5],
    ['.', 4],
  ] as const) {
    const root = fileURLToPath(new URL(`../../${folder}`, import.meta.url));
    expect(readFileSync(join(root, '.caisson/pipeline.ts'), 'utf8')).toContain('pipeline(');
    expect(JSON.parse(render(root).stdout).graph.nodes).toHaveLength(steps);
  }
});
