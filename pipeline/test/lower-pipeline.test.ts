import { describe, expect, test } from 'vitest';
import type { PipelineIr } from '../ir.ts';
import { lowerPipeline } from '../lower-pipeline.ts';
import { group, onChange, pipeline, scratch, sh, target, timeout, ttl, wait } from '../pipeline.ts';
import { sha256Hex } from './sha256-hex.ts';

const lower = (...args: Parameters<typeof pipeline>): PipelineIr => lowerPipeline(pipeline(...args), sha256Hex);
const keysOf = (ir: PipelineIr) => ir.graph.nodes.map(({ step }) => step.key);
const base = { DEBIAN_FRONTEND: 'noninteractive', TERM: 'dumb' };
const named = (label: string) => sh(`run ${label}`, { label });

/** Edges as `from>to` by key, `=` for builds_in. */
function edgesOf(ir: PipelineIr): readonly string[] {
  const keys = keysOf(ir);
  return ir.graph.edges.map(([from, to, kind]) => `${keys[from]}${kind === 'builds_in' ? '=' : '>'}${keys[to]}`);
}

describe('a pipeline as IR', () => {
  test('a chain, a wait, images, caches and limits', () => {
    const apt = sh('apt-get update && apt-get install -y make', { label: ':apt: base', cache: ttl(86_400) });
    const deps = apt.sh('npm ci', { label: ':node: deps', cache: onChange('package-lock.json') });
    const unit = timeout('15m', deps.sh('npm test', { label: 'test', env: { NODE_ENV: 'test' } }));
    const publish = sh('npm publish', { label: 'publish' });
    const ir = lower([unit, wait(), publish], { env: { CI: 'true' }, defaultImage: 'ubuntu:24.04', timeout: '30m' });
    expect(ir).toEqual({
      version: '0',
      default_image: 'ubuntu:24.04',
      timeout_seconds: 1800,
      graph: {
        nodes: [
          {
            step: {
              key: 'base',
              cmd: 'apt-get update && apt-get install -y make',
              label: ':apt: base',
              image: 'ubuntu:24.04',
              cache: { policy: 'ttl', duration_seconds: 86_400, env_keys: [] },
            },
            env: { ...base, CI: 'true' },
          },
          {
            step: {
              key: 'deps',
              cmd: 'npm ci',
              label: ':node: deps',
              cache: { policy: 'on_change', paths: ['package-lock.json'] },
            },
            env: { ...base, CI: 'true' },
          },
          {
            step: { key: 'test', cmd: 'npm test', label: 'test', env: { NODE_ENV: 'test' }, timeout_seconds: 900 },
            env: { ...base, CI: 'true', NODE_ENV: 'test' },
          },
          {
            step: { key: 'publish', cmd: 'npm publish', label: 'publish', image: 'ubuntu:24.04' },
            env: { ...base, CI: 'true' },
          },
        ],
        node_holes: [],
        edge_property: 'directed',
        edges: [
          [0, 1, 'builds_in'],
          [1, 2, 'builds_in'],
          [0, 3, 'depends_on'],
          [1, 3, 'depends_on'],
          [2, 3, 'depends_on'],
        ],
      },
    });
  });

  test('leaves are walked to their roots, parent first, each step object once', () => {
    const root = named('root');
    const left = root.sh('left', { label: 'left' });
    const ir = lower([left.sh('deep', { label: 'deep' }), root.sh('right', { label: 'right' }), left, sh('run root')]);
    expect(keysOf(ir).slice(0, 4)).toEqual(['root', 'left', 'deep', 'right']);
    expect(ir.graph.nodes).toHaveLength(5);
    expect(edgesOf(ir)).toEqual(['root=left', 'left=deep', 'root=right']);
  });

  test('scratch and fork are not emitted; children build in the step above them', () => {
    const ir = lower([
      named('root').fork('ios').fork().sh('a', { label: 'a' }),
      scratch({ image: 'debian:12' }).sh('b'),
    ]);
    expect(edgesOf(ir)).toEqual(['root=a']);
    expect(ir.graph.nodes.map(({ step }) => step.image)).toEqual([undefined, undefined, 'debian:12']);
  });

  test('groups, nested lists and targets are flattened where they stand', () => {
    const make = target('lower-test', () => named('made'));
    const ir = lower([group([named('a'), [named('b')]]), make, make()]);
    expect(keysOf(ir)).toEqual(['a', 'b', 'made']);
  });

  test('a directory becomes a cd in front of the command, quoted where it must be', () => {
    const ir = lower([sh('uv run pytest', { cwd: 'services/ml' }), sh('ls', { cwd: "it's here" })]);
    expect(ir.graph.nodes.map(({ step }) => step.cmd)).toEqual([
      'cd services/ml && uv run pytest',
      `cd 'it'\\''s here' && ls`,
    ]);
  });

  test('runner and its arguments travel', () => {
    const [node] = lower([sh('x', { runner: 'docker', runnerArgs: { network: 'none' } })]).graph.nodes;
    expect(node?.step).toMatchObject({ runner: 'docker', runner_args: { network: 'none' } });
  });

  test('memory is kept of the step that says so', () => {
    const database = sh('start', { label: 'database', snapshot: 'memory' });
    const ir = lower([database.sh('test', { label: 'test' })]);
    expect(ir.graph.nodes.map(({ step: { key, snapshot } }) => [key, snapshot])).toEqual([
      ['database', 'memory'],
      ['test', undefined],
    ]);
  });

  test('a long chain is no deeper than a short one', () => {
    let step = sh('0');
    for (let index = 1; index < 20_000; index += 1) step = step.sh(String(index));
    expect(pipeline([step]).steps).toHaveLength(20_000);
  });
});

describe('waits', () => {
  test('hold back what stands behind them until everything before them is done', () => {
    const a = named('a');
    const ir = lower([a, named('b'), wait(), named('c'), wait(), a.sh('d', { label: 'd' })]);
    expect(edgesOf(ir)).toEqual(['a>c', 'b>c', 'a=d', 'b>d', 'c>d']);
  });

  test('two in a row hold back like one, also when it is the same object', () => {
    const barrier = wait();
    expect(edgesOf(lower([named('a'), barrier, barrier, named('b')]))).toEqual(['a>b']);
    expect(edgesOf(lower([named('a'), barrier, named('b'), barrier, named('c')]))).toEqual(['a>b', 'a>c', 'b>c']);
  });

  test('first and last ones change nothing', () => {
    expect(edgesOf(lower([wait(), named('a'), wait()]))).toEqual([]);
  });

  test('continueOnFailure names the prerequisites that may fail', () => {
    const a = named('a');
    const ir = lower([a, named('b'), wait({ continueOnFailure: true }), a.sh('c', { label: 'c' }), wait(), named('d')]);
    expect(edgesOf(ir)).toEqual(['a=c', 'b>c', 'a>d', 'b>d', 'c>d']);
    expect(ir.graph.nodes.map(({ step }) => step.continue_on_failure)).toEqual([
      undefined,
      undefined,
      ['b'],
      undefined,
    ]);
  });

  test('a strict wait next to a lenient one wins', () => {
    const ir = lower([named('a'), wait({ continueOnFailure: true }), wait(), named('b')]);
    expect(ir.graph.nodes[1]?.step.continue_on_failure).toBeUndefined();
  });
});

describe('steps with several prerequisites', () => {
  const install = named('install');
  const app = install.sh('app', { label: 'app' });
  const docs = install.sh('docs', { label: 'docs' });

  test('start from one disk and wait for the others', () => {
    const expected = ['install=app', 'install=docs', 'app=join', 'docs>join'];
    expect(edgesOf(lower([app.sh('join', { label: 'join', after: docs })]))).toEqual(expected);
    expect(edgesOf(lower([app.sh('join', { label: 'join' }).after(docs)]))).toEqual(expected);
  });

  test('no prerequisite is linked twice, and forks stand for the step above them', () => {
    const join = app.sh('join', { label: 'join', after: [app, docs, docs.fork()] });
    expect(edgesOf(lower([install, docs, wait(), join]))).toEqual([
      'install=docs',
      'install=app',
      'docs>app',
      'app=join',
      'docs>join',
      'install>join',
    ]);
  });
});

describe('step keys', () => {
  test('are hashes of parent key, command and position where there is no label', () => {
    const apt = sh('apt-get update && apt-get install -y curl ca-certificates git');
    expect(keysOf(lower([apt]))).toEqual(['334b29e96b76']);
    expect(keysOf(lower([sh('echo hi')]))).toEqual(['103c16c69f21']);
    const sync = sh('uv sync', { label: 'uv-sync' });
    const others = Array.from({ length: 7 }, (_, index) => named(`other ${index}`));
    const tests = ['pytest', 'ruff check .'].map((tool) => sync.sh(`uv run ${tool}`, { cwd: 'services/ml' }));
    expect(keysOf(lower([sync, ...others, ...tests])).slice(8)).toEqual(['847020e744bc', '6c48498afb84']);
  });

  test('lose the parent behind a fork and keep counting past waits', () => {
    const root = named('root');
    const ir = lower([root.fork().sh('x'), wait(), root.sh('y')]);
    const hash = (text: string) => sha256Hex(text).slice(0, 12);
    expect(keysOf(ir)).toEqual(['root', hash('\0x\x001'), hash('root\0y\x002')]);
  });

  test('come from the author first and from unique labels second', () => {
    const ir = lower([
      sh('1', { key: 'lint', label: 'build' }),
      sh('2', { label: ':c: cmake-verify' }),
      sh('3', { label: 'Build' }),
      sh('4', { label: 'lint' }),
    ]);
    expect(keysOf(ir).slice(0, 2)).toEqual(['lint', 'cmake-verify']);
    expect(keysOf(ir)[2]).toMatch(/^[0-9a-f]{12}$/);
    expect(keysOf(ir)[3]).toMatch(/^[0-9a-f]{12}$/);
  });
});
