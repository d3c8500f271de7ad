import { afterEach, describe, expect, test } from 'vitest';
import { checkSlug } from '../define-pipeline.ts';
import { lowerPipeline } from '../lower-pipeline.ts';
import {
  aptBase,
  clearTargetCache,
  compose,
  env,
  forever,
  type Leaf,
  onChange,
  pipeline,
  pullRequest,
  push,
  type Step,
  scratch,
  sh,
  target,
  timeout,
  ttl,
  wait,
} from '../pipeline.ts';
import { sha256Hex } from './sha256-hex.ts';

afterEach(clearTargetCache);

/** What a pipeline file without types may hand in. */
const untyped = (value: unknown) => value as never;

describe('a mistake is refused with the step and what to change', () => {
  const cases: Readonly<Record<string, readonly [() => unknown, RegExp]>> = {
    'no leaves': [() => pipeline([]), /nothing to run.*sh\(/],
    'only waits and scratches': [() => pipeline([wait(), scratch()]), /nothing to run/],
    'a leaf that is no step': [() => pipeline([sh('a'), untyped('make')]), /leaf 2 is string/],
    'a leaf that is a promise': [() => pipeline([untyped(Promise.resolve())]), /await it/],
    'leaves that are no list': [() => pipeline(untyped(sh('a'))), /as one list/],
    'leaves as several arguments': [() => pipeline([sh('a')], untyped(sh('b'))), /as one list/],
    'an empty command': [() => sh('  '), /non-empty string/],
    'a command that is missing': [() => sh(untyped(undefined)), /non-empty string, not undefined/],
    'an env value that is missing': [
      () => sh('make', untyped({ label: 'b', env: { A: undefined } })),
      /step "b": env A is undefined/,
    ],
    'a name of env with an equals sign': [() => sh('make', { env: { 'A=B': '' } }), /step "make": "A=B"/],
    'an image that is no text': [() => sh('make', untyped({ image: 3 })), /step "make": image/],
    'a policy that is none': [() => sh('make', untyped({ cache: 'forever' })), /step "make": the cache policy/],
    'a snapshot of something else': [
      () => sh('make', untyped({ label: 'db', snapshot: 'disk' })),
      /step "db": snapshot is "disk".*"memory"/,
    ],
    'a duration without unit': [() => timeout('15', sh('make')), /timeout of step "make": "15"/],
    'a duration of nothing': [() => sh('make', { timeout: 0 }), /timeout of step "make": 0/],
    'a timeout on a wait': [() => timeout('5m', wait()), /wait takes no time/],
    'a timeout on a fork': [() => timeout('5m', sh('a').fork()), /runs nothing/],
    'a timeout in the wrong order': [() => timeout(untyped(sh('a')), untyped('5m')), /second argument is a step/],
    'a step on a wait': [() => wait().sh('a'), /no disk/],
    'a fork of a wait': [() => wait().fork(), /no disk/],
    'a wait as prerequisite': [() => sh('a', { label: 'j', after: wait() }), /step "j": "after" names a wait/],
    'a text as prerequisite': [() => sh('a', untyped({ after: 'b' })), /"after" takes steps/],
    'two steps with one key': [
      () => pipeline([sh('one', { key: 'k' }), sh('two', { key: 'k' })]),
      /two steps have the key "k": one and two/,
    ],
    'a push without globs': [() => push({}), /exactly one/],
    'a push with both': [() => push({ branch: 'a', tag: 'b' }), /exactly one/],
    'a pull request of a type unknown': [() => pullRequest({ types: untyped(['merged']) }), /"merged" is not a type/],
    'a path outside': [() => onChange('../secrets'), /stay inside/],
    'no path': [() => onChange(), /at least one path/],
    'no policy': [() => compose(), /at least one/],
    'a name of env that is none': [() => forever({ envKeys: ['A B'] }), /"A B"/],
    'a package that is an option': [() => aptBase(['-y']), /"-y" is not a package/],
    'an env that is not set': [() => env('CAISSON_TEST_NOT_SET'), /not set/],
    'a dynamic target': [() => target('t', () => sh('a'), { dynamic: true }), /dynamic/],
    'a slug with capitals': [() => checkSlug('Build', 'ci.ts'), /ci\.ts: "Build" is not a slug/],
  };
  for (const [title, [attempt, message]] of Object.entries(cases)) test(title, () => expect(attempt).toThrow(message));

  test('targets in a circle', () => {
    const a: () => Leaf = target('a', () => b());
    const b: () => Leaf = target('b', () => a());
    expect(a).toThrow('targets need each other in a circle: a -> b -> a');
  });

  test('a hash that somebody took as a key', () => {
    expect(() => lowerPipeline(pipeline([sh('echo hi'), sh('x', { key: '103c16c69f21' })]), sha256Hex)).toThrow(
      'end up with the key "103c16c69f21"',
    );
  });
});

describe('what is declared', () => {
  test('durations', () => {
    const seconds = ['30s', '5m', '1h30m', '1d', 90].map((text) => timeout(text, sh('a')).fields.timeoutSeconds);
    expect(seconds).toEqual([30, 300, 5400, 86_400, 90]);
  });

  test('triggers', () => {
    expect(push({ branch: 'main' })).toEqual({ event: 'push', branches: ['main'] });
    expect(push({ tag: ['v*', 'r*'] })).toEqual({ event: 'push', tags: ['v*', 'r*'] });
    const types = ['opened', 'synchronize', 'reopened'];
    expect(pullRequest()).toEqual({ event: 'pull_request', branches: [], types });
    expect(pullRequest({ branches: 'main', types: ['closed'] })).toMatchObject({
      branches: ['main'],
      types: ['closed'],
    });
  });

  test('cache policies', () => {
    expect(forever()).toEqual({ policy: 'forever', env_keys: [] });
    expect(ttl('1h', ['A'])).toEqual({ policy: 'ttl', duration_seconds: 3600, env_keys: ['A'] });
    expect(compose(forever({ envKeys: ['V'] }), onChange('a', 'b'))).toEqual({
      policy: 'compose',
      sub_policies: [
        { policy: 'forever', env_keys: ['V'] },
        { policy: 'on_change', paths: ['a', 'b'] },
      ],
    });
  });

  test('an apt base', () => {
    expect(aptBase(['curl', 'g++'], { image: 'debian:12' }).fields).toMatchObject({
      command: 'apt-get update && apt-get install -y curl g++',
      label: ':apt: base',
      image: 'debian:12',
      cache: { policy: 'ttl', duration_seconds: 86_400 },
    });
  });

  test('a target is made once and shared', () => {
    let count = 0;
    const base = target('base', (): Step => {
      count += 1;
      return sh('base', { label: 'base' });
    });
    const shared = new Set([base(), base()]);
    expect([count, shared.size]).toEqual([1, 1]);
  });

  test('steps cannot be changed', () => {
    const step = sh('a');
    expect(() => Object.assign(step.fields, { command: 'b' })).toThrow();
    expect(() => Object.assign(step, { fields: {} })).toThrow();
  });
});
