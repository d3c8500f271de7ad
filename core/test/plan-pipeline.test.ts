import { describe, expect, test } from 'vitest';
import type { Plan, PlanRejectionCode } from '../plan.ts';
import type { PlanLimits } from '../plan-limits.ts';
import { planPipeline } from '../plan-pipeline.ts';
import { evalDocument, flatDocument, graphDocument } from './plan-documents.ts';

const plan = (document: unknown, limits?: Partial<PlanLimits>): Plan => {
  const result = planPipeline(JSON.stringify(document), limits);
  if (!result.ok) throw new Error(result.message);
  return result.plan;
};
const command = (key: string, fields: object = {}) => ({ type: 'command', key, cmd: 'true', ...fields });
const flat = (...steps: unknown[]) => ({ version: '0', steps });
const graph = (nodes: unknown[], edges: unknown[] = [], fields: object = {}) => ({
  version: '0',
  ...fields,
  graph: { nodes, edges },
});
const node = (key: string, fields: object = {}) => ({ step: { key, cmd: 'true', ...fields } });
const edgesOf = ({ steps }: Plan) =>
  Object.fromEntries(steps.map(({ key, buildsIn, dependsOn }) => [key, [buildsIn, ...dependsOn]]));
const step = (document: Plan, key: string) => document.steps.find((each) => each.key === key)!;

describe('the documents of the three dialects', () => {
  test('flat', () => {
    const planned = plan(flatDocument);
    expect(edgesOf(planned)).toEqual({
      base: [null],
      build: ['base', 'base'],
      unit: ['build', 'build'],
      'lint-c': ['build', 'build'],
      deploy: [null, 'base', 'build', 'unit', 'lint-c'],
    });
    expect(step(planned, 'unit')).toEqual({
      key: 'unit',
      label: 'unit',
      command: 'make unit',
      image: null,
      env: { CI: 'true' },
      timeoutMs: 600_000,
      snapshot: 'disk',
      needsMemorySnapshots: false,
      buildsIn: 'build',
      dependsOn: ['build'],
      cacheKey: null,
      runner: null,
      runnerArgs: null,
    });
    expect(step(planned, 'deploy')).toMatchObject({ image: 'ubuntu:24.04', env: { CI: 'true', TARGET: 'prod' } });
  });

  test('graph', () => {
    const planned = plan(graphDocument);
    expect(planned).toMatchObject({ defaultImage: 'ubuntu:24.04', timeoutMs: 1_800_000 });
    expect(edgesOf(planned)).toEqual({
      base: [null],
      deps: ['base', 'base'],
      test: ['deps', 'deps'],
      publish: [null, 'base', 'deps', 'test'],
    });
    expect(step(planned, 'deps')).toMatchObject({
      cacheKey: graphDocument.graph.nodes[1]!.step.cache!.key,
      image: null,
    });
    expect(step(planned, 'test')).toMatchObject({ env: { CI: 'true', NODE_ENV: 'test' }, timeoutMs: 900_000 });
  });

  test('graph with eval, of which a dynamic step cannot run', () => {
    expect(planPipeline(JSON.stringify(evalDocument))).toEqual({
      ok: false,
      code: 'invalid_ir',
      message: 'Step "shards" is a dynamic target, which cannot run yet; write its steps into the pipeline instead.',
      step: 'shards',
    });
    const [setup] = evalDocument.graph.nodes;
    const planned = plan(graph([setup]));
    expect(planned.steps[0]).toMatchObject({ command: 'pip install uv', image: 'python:3.12', env: { TERM: 'dumb' } });
  });
});

describe('planning', () => {
  test('keeps the order of the document and moves up what is needed earlier', () => {
    const document = flat(
      command('d', { builds_in: 'b' }),
      command('a'),
      command('b', { builds_in: 'a' }),
      command('c'),
    );
    expect(plan(document).steps.map(({ key }) => key)).toEqual(['a', 'b', 'd', 'c']);
  });

  test('lets every wait hold back all that follows until all before it passed', () => {
    const wait = { type: 'wait', continue_on_failure: true };
    const document = flat(
      wait,
      command('a'),
      command('b'),
      wait,
      wait,
      command('c', { builds_in: 'a' }),
      wait,
      command('d'),
      wait,
    );
    expect(edgesOf(plan(document))).toEqual({
      a: [null],
      b: [null],
      c: ['a', 'a', 'b'],
      d: [null, 'a', 'b', 'c'],
    });
  });

  test('lists only the steps since the last wait where all of them would be too many', () => {
    const steps = Array.from({ length: 40 }, (_, i) => [command(`k${i}`), { type: 'wait' }]).flat();
    const planned = plan(flat(...steps), { edges: 100 });
    expect(step(planned, 'k39').dependsOn).toEqual(['k38']);
    const refused = planPipeline(JSON.stringify(flat(...steps)), { edges: 38 });
    expect(refused).toMatchObject({ ok: false, code: 'too_large' });
  });

  test('refuses a fan of thousands into a fan of thousands without building it', () => {
    const fan = (name: string) => Array.from({ length: 5_000 }, (_, i) => command(`${name}${i}`));
    const refused = planPipeline(JSON.stringify(flat(...fan('a'), { type: 'wait' }, ...fan('b'))));
    expect(refused).toMatchObject({ code: 'too_large', message: expect.stringContaining('25000000 dependencies') });
  });

  test('merges repeated edges of both kinds', () => {
    const edges = [
      [0, 1, 'depends_on'],
      [0, 1, 'builds_in'],
      [0, 1, 'builds_in'],
    ];
    expect(edgesOf(plan(graph([node('a'), node('b')], edges)))).toEqual({ a: [null], b: ['a', 'a'] });
  });

  test('overlays env from the pipeline over the step to the node', () => {
    const nodes = [{ step: { key: 'a', cmd: 'true', env: { B: 'step', C: 'step' } }, env: { C: 'node' } }];
    expect(plan(graph(nodes, [], { env: { A: 'top', B: 'top', C: 'top' } })).steps[0]?.env).toEqual({
      A: 'top',
      B: 'step',
      C: 'node',
    });
  });

  test('gives the default image to steps that start from no other disk and name none', () => {
    const document = graph(
      [node('a'), node('b', { image: 'mine' }), node('c', { image: 'unused' })],
      [[0, 2, 'builds_in']],
      { default_image: 'd' },
    );
    expect(plan(document).steps.map(({ image }) => image)).toEqual(['d', 'mine', null]);
    expect(plan(flat(command('a'))).steps[0]?.image).toBeNull();
  });

  test('keeps memory where a step asks for it and another starts from it, on a host of which all of its tree knows', () => {
    const memory = { snapshot: 'memory' };
    const planned = plan(
      flat(
        command('base'),
        command('db', { ...memory, builds_in: 'base' }),
        command('fork', { builds_in: 'db' }),
        command('other', { builds_in: 'base' }),
        command('last', { ...memory, builds_in: 'fork' }),
        command('alone', memory),
        command('null', { snapshot: null }),
      ),
    );
    const kept = planned.steps.map((each) => [each.key, each.snapshot, each.needsMemorySnapshots]);
    expect(kept).toEqual([
      ['base', 'disk', true],
      ['db', 'memory', true],
      ['fork', 'disk', false],
      ['other', 'disk', false],
      ['last', 'disk', false],
      ['alone', 'disk', false],
      ['null', 'disk', false],
    ]);
    const nodes = [node('db', memory), node('fork')];
    expect(step(plan(graph(nodes, [[0, 1, 'builds_in']])), 'db')).toMatchObject({ snapshot: 'memory' });
    expect(step(plan(graph(nodes, [[0, 1, 'depends_on']])), 'db')).toMatchObject({ snapshot: 'disk' });
  });

  test('ignores what it does not know and takes null for absent', () => {
    const fields = {
      label: null,
      image: null,
      env: null,
      timeout_seconds: null,
      cache: null,
      runner: null,
      runner_args: null,
      builds_in: null,
    };
    expect(
      plan({ ...flat(command('a', { ...fields, secrets: {}, matrix: [1] })), graph: null, future: true }).steps,
    ).toHaveLength(1);
    expect(plan(flat(command('a', { runner: 'docker', runner_args: { cpus: [1, null] } }))).steps[0]).toMatchObject({
      runner: 'docker',
      runnerArgs: { cpus: [1, null] },
    });
  });
});

/** Document, code, part of the message, step. */
const deepCache = JSON.parse(`${'{"policy":"compose","sub_policies":['.repeat(40)}${']}'.repeat(40)}`);
const deepArgs = JSON.parse(`${'['.repeat(40)}${']'.repeat(40)}`);
const cases: readonly (readonly [unknown, PlanRejectionCode, string, string | null])[] = [
  [[], 'invalid_ir', 'is an array; it must be an object', null],
  [null, 'invalid_ir', 'is nothing', null],
  ['text', 'invalid_ir', 'is a string', null],
  [{ steps: [] }, 'invalid_ir', 'has no version', null],
  [{ version: null, steps: [] }, 'invalid_ir', 'has no version', null],
  [{ version: '1', steps: [] }, 'bad_version', '"1" as version', null],
  [{ version: 0, steps: [] }, 'bad_version', 'a number as version', null],
  [{ version: '1', graph: {} }, 'bad_version', '"1" as version', null],
  [{ version: '0' }, 'invalid_ir', 'neither steps nor a graph', null],
  [{ version: '0', graph: [] }, 'invalid_ir', 'neither steps nor a graph', null],
  [{ version: '0', steps: {} }, 'invalid_ir', 'an object as steps', null],
  [flat(), 'invalid_ir', 'no command steps', null],
  [flat({ type: 'wait' }), 'invalid_ir', 'no command steps', null],
  [graph([]), 'invalid_ir', 'no command steps', null],
  [flat(command('a'), 7), 'invalid_ir', 'Step 1 is a number', '1'],
  [flat({ key: 'a', cmd: 'true' }), 'invalid_ir', 'Step "a" has no type', 'a'],
  [flat(command('a', { type: null })), 'invalid_ir', 'has no type', 'a'],
  [flat(command('a', { type: 'block' })), 'invalid_ir', 'the type "block"', 'a'],
  [flat(command('a', { type: 1 })), 'invalid_ir', 'the type a number', 'a'],
  [flat(command('a'), { type: 'command', cmd: 'true' }), 'invalid_ir', 'Step 1 has no key', '1'],
  [flat(command('a', { key: null })), 'invalid_ir', 'has no key', '0'],
  [flat(command('')), 'invalid_ir', 'an empty key', '0'],
  [flat(command('a\u0000')), 'invalid_ir', 'a NUL or half a character in key', '0'],
  [flat(command('a\n')), 'invalid_ir', 'a control character in its key', 'a\n'],
  [flat(command('k'.repeat(513))), 'too_large', '513 characters in key', '0'],
  [flat({ type: 'command', key: 'a' }), 'invalid_ir', 'Step "a" has no cmd', 'a'],
  [flat(command('a', { cmd: null })), 'invalid_ir', 'has no cmd', 'a'],
  [flat(command('a', { cmd: ['ls'] })), 'invalid_ir', 'an array as cmd', 'a'],
  [flat(command('a', { cmd: 'a\u0000b' })), 'invalid_ir', 'a NUL or half a character in cmd', 'a'],
  [flat(command('a', { cmd: '\ud800' })), 'invalid_ir', 'a NUL or half a character in cmd', 'a'],
  [flat(command('a', { cmd: 'é'.repeat(65_536) })), 'too_large', 'a cmd of 131072 bytes', 'a'],
  [flat(command('a', { label: 5 })), 'invalid_ir', 'a number as label', 'a'],
  [flat(command('a', { image: '' })), 'invalid_ir', 'an empty image', 'a'],
  [flat(command('a', { runner: {} })), 'invalid_ir', 'an object as runner', 'a'],
  [flat(command('a', { runner_args: { x: '\u0000' } })), 'invalid_ir', 'in runner_args', 'a'],
  [flat(command('a', { runner_args: { '\u0000': 1 } })), 'invalid_ir', 'in runner_args', 'a'],
  [flat(command('a', { runner_args: deepArgs })), 'too_large', 'too deep', 'a'],
  [flat(command('a', { runner_args: Array(10_001).fill(0) })), 'too_large', 'too many', 'a'],
  ...['disk', '', 7, true, {}].map(
    (snapshot) => [flat(command('a', { snapshot })), 'invalid_ir', 'as snapshot; it must be "memory"', 'a'] as const,
  ),
  [flat(command('a', { env: [] })), 'invalid_ir', 'an array as env', 'a'],
  [flat(command('a', { env: { A: 1 } })), 'invalid_ir', 'a number as env "A"', 'a'],
  [flat(command('a', { env: { A: null } })), 'invalid_ir', 'nothing as env "A"', 'a'],
  [flat(command('a', { env: { 'A=B': '' } })), 'invalid_ir', 'the env name "A=B"', 'a'],
  [flat(command('a', { env: { '': '' } })), 'invalid_ir', 'the env name ""', 'a'],
  [flat(command('a', { env: { 'A\u0000': '' } })), 'invalid_ir', 'the env name', 'a'],
  [flat(command('a', { env: { A: '\u0000' } })), 'invalid_ir', 'in env "A"', 'a'],
  [flat(command('a', { env: { A: 'x'.repeat(131_071) } })), 'too_large', 'bytes in env "A"', 'a'],
  [{ ...flat(command('a')), env: { A: 1 } }, 'invalid_ir', 'The pipeline has a number as env "A"', null],
  [graph([{ step: { key: 'a', cmd: '' }, env: 'x' }]), 'invalid_ir', 'a string as env', 'a'],
  ...[0, -1, 1.5, 2_147_484, '60', true].map(
    (seconds) => [flat(command('a', { timeout_seconds: seconds })), 'invalid_ir', 'as timeout_seconds', 'a'] as const,
  ),
  [{ ...flat(command('a')), timeout_seconds: 0 }, 'invalid_ir', 'The pipeline has 0 as timeout_seconds', null],
  [flat(command('a', { cache: 'forever' })), 'invalid_ir', 'a string as cache', 'a'],
  [flat(command('a', { cache: {} })), 'invalid_ir', 'nothing as cache policy', 'a'],
  [flat(command('a', { cache: { policy: 'sometimes' } })), 'invalid_ir', '"sometimes" as cache policy', 'a'],
  [flat(command('a', { cache: { policy: 'ttl' } })), 'invalid_ir', 'without duration_seconds', 'a'],
  [flat(command('a', { cache: { policy: 'forever', env_keys: [1] } })), 'invalid_ir', 'cache.env_keys', 'a'],
  [flat(command('a', { cache: { policy: 'forever', env_keys: 'A' } })), 'invalid_ir', 'cache.env_keys', 'a'],
  [flat(command('a', { cache: { policy: 'on_change' } })), 'invalid_ir', 'without paths', 'a'],
  [flat(command('a', { cache: { policy: 'compose' } })), 'invalid_ir', 'without sub_policies', 'a'],
  [
    flat(command('a', { cache: { policy: 'compose', sub_policies: [1] } })),
    'invalid_ir',
    'among its sub_policies',
    'a',
  ],
  [flat(command('a', { cache: deepCache })), 'too_large', 'nested too deep', 'a'],
  [
    flat(command('a', { cache: { policy: 'on_change', paths: Array(10_001).fill('') } })),
    'too_large',
    'too many values',
    'a',
  ],
  [flat(command('a', { cache: { policy: 'none', key: 'abc' } })), 'invalid_ir', 'cache.key', 'a'],
  [flat(command('a'), command('a')), 'duplicate_key', 'Step "a" is there twice', 'a'],
  [graph([node('a'), node('a')]), 'duplicate_key', 'Step "a" is there twice', 'a'],
  [flat(command('a', { builds_in: 'b' })), 'unknown_dependency', 'builds in "b", which is no step', 'a'],
  [flat(command('a', { builds_in: 3 })), 'invalid_ir', 'a number as builds_in', 'a'],
  [flat(command('a', { builds_in: 'a' })), 'cycle', '"a" → "a"', 'a'],
  [flat(command('a', { builds_in: 'b' }), command('b', { builds_in: 'a' })), 'cycle', '"a" → "b" → "a"', 'a'],
  [flat(command('a', { builds_in: 'b' }), { type: 'wait' }, command('b')), 'cycle', '"a" → "b" → "a"', 'a'],
  [{ version: '0', graph: { nodes: {} } }, 'invalid_ir', 'an object as graph.nodes', null],
  [{ version: '0', graph: { nodes: [node('a')], edges: 1 } }, 'invalid_ir', 'a number as graph.edges', null],
  [{ version: '0', graph: { nodes: [node('a')], node_holes: [1] } }, 'invalid_ir', 'node_holes', null],
  [{ version: '0', graph: { nodes: [node('a')], edge_property: 'undirected' } }, 'invalid_ir', 'edge_property', null],
  [graph(['x']), 'invalid_ir', 'Step 0 is a string', '0'],
  [graph([{}]), 'invalid_ir', 'Step 0 has nothing as step', '0'],
  [graph([{ step: { cmd: 'true' } }]), 'invalid_ir', 'Step 0 has no key', '0'],
  [graph([{ step: { key: 'a' } }]), 'invalid_ir', 'Step "a" has no cmd', 'a'],
  [graph([{ step: { key: 'a', cmd: 'x', eval: { type: 'cmd', cmd: 'x' } } }]), 'invalid_ir', 'both cmd and eval', 'a'],
  [graph([{ step: { key: 'a', eval: 'x' } }]), 'invalid_ir', 'a string as eval', 'a'],
  [graph([{ step: { key: 'a', eval: {} } }]), 'invalid_ir', 'nothing as eval.type', 'a'],
  [graph([{ step: { key: 'a', eval: { type: 'wasm' } } }]), 'invalid_ir', '"wasm" as eval.type', 'a'],
  [graph([{ step: { key: 'a', eval: { type: 'cmd' } } }]), 'invalid_ir', 'has no cmd', 'a'],
  [graph([node('a')], [1]), 'invalid_ir', 'a number as edge 0', null],
  [graph([node('a')], [[0, 0]]), 'invalid_ir', 'an array as edge 0', null],
  ...[1, -1, 0.5, '0', null, 1e300].map(
    (index) => [graph([node('a')], [[index, 0, 'depends_on']]), 'invalid_ir', 'leads outside', null] as const,
  ),
  [graph([node('a'), node('b')], [[0, 1, 'follows']]), 'invalid_ir', '"follows" as kind of edge 0', null],
  [graph([node('a'), node('b')], [[0, 1, null]]), 'invalid_ir', 'nothing as kind of edge 0', null],
  [graph([node('a')], [[0, 0, 'depends_on']]), 'invalid_ir', 'depends on itself', 'a'],
  [
    graph(
      [node('a'), node('b'), node('c')],
      [
        [0, 2, 'builds_in'],
        [1, 2, 'builds_in'],
      ],
    ),
    'invalid_ir',
    'builds in both node 0 and node 1',
    'c',
  ],
  [
    graph(
      [node('a'), node('b'), node('c')],
      [
        [0, 1, 'depends_on'],
        [1, 2, 'builds_in'],
        [2, 1, 'depends_on'],
      ],
    ),
    'cycle',
    '"b" → "c" → "b"',
    'b',
  ],
];

test.each(cases)('refuses %j as %s: %s', (document, code, message, at) => {
  const result = planPipeline(JSON.stringify(document));
  expect(result).toMatchObject({ ok: false, code, message: expect.stringContaining(message), step: at });
});

test.each(['', '{', 'nope', '{"version":"0",}', '\u0000', '\ud800'])('refuses %j as invalid_json', (text) => {
  const result = planPipeline(text);
  expect(result).toMatchObject({ ok: false, code: 'invalid_json', step: null });
  if (!result.ok) expect(result.message.isWellFormed() && [...result.message].every((char) => char >= ' ')).toBe(true);
});
