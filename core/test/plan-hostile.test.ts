import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { orderSteps } from '../order-steps.ts';
import type { PlanResult } from '../plan.ts';
import { planPipeline } from '../plan-pipeline.ts';
import { evalDocument, flatDocument, graphDocument } from './plan-documents.ts';

function expectSound(result: PlanResult): void {
  if (!result.ok) {
    expect(result.code).toMatch(/^[a-z_]+$/);
    expect(result.message).toMatch(/^(Step|Steps|The pipeline) .+[^ ]$/s);
    expect(result.message.length).toBeLessThan(1_500);
    expect(result.message.includes('\0') || !result.message.isWellFormed()).toBe(false);
    return;
  }
  const seen = new Set<string>();
  for (const { key, dependsOn, buildsIn } of result.plan.steps) {
    expect(dependsOn.every((need) => seen.has(need))).toBe(true);
    expect(new Set(dependsOn).size).toBe(dependsOn.length);
    expect(buildsIn === null || dependsOn.includes(buildsIn)).toBe(true);
    seen.add(key);
  }
  expect(seen.size).toBe(result.plan.steps.length);
}

describe('a hostile document', () => {
  test('nested a million deep is refused or passed over', () => {
    const deep = `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`;
    expect(planPipeline(deep)).toMatchObject({ code: 'invalid_ir' });
    expect(planPipeline('['.repeat(1_000_000))).toMatchObject({ code: 'invalid_json' });
    const step = '{"type":"command","key":"a","cmd":"true"';
    expect(planPipeline(`{"version":"0","extra":${deep},"steps":[${step}}]}`)).toMatchObject({ ok: true });
    expect(planPipeline(`{"version":"0","steps":[${step},"runner_args":${deep}}]}`)).toMatchObject({
      code: 'too_large',
    });
  });

  test('may call a step or a variable like a part of a prototype', () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
    const entries = names.map((name) => `${JSON.stringify(name)}:"x"`).join();
    const steps = names.map((name, i) => {
      const parent = i === 0 ? 'null' : JSON.stringify(names[i - 1]);
      return `{"type":"command","key":${JSON.stringify(name)},"cmd":"true","builds_in":${parent},"env":{${entries}}}`;
    });
    const result = planPipeline(`{"version":"0","env":{"__proto__":"y","A":"b"},"steps":[${steps.join()}]}`);
    if (!result.ok) throw new Error(result.message);
    expect(result.plan.steps.map(({ key }) => key)).toEqual(names);
    for (const { env } of result.plan.steps) {
      expect(Object.getPrototypeOf(env)).toBe(Object.prototype);
      expect(Object.entries(env)).toEqual([
        ['__proto__', 'x'],
        ['A', 'b'],
        ...names.slice(1).map((name) => [name, 'x']),
      ]);
    }
    expect(planPipeline('{"version":"0","__proto__":{"steps":[{"type":"command","key":"a","cmd":"b"}]}}').ok).toBe(
      false,
    );
  });

  test('with huge numbers is refused', () => {
    const step = (fields: string) => `{"version":"0","steps":[{"type":"command","key":"a","cmd":"true",${fields}}]}`;
    expect(planPipeline(step('"timeout_seconds":1e999'))).toMatchObject({ code: 'invalid_ir' });
    expect(planPipeline(step('"runner_args":[1e999]'))).toMatchObject({ code: 'invalid_ir' });
    expect(planPipeline(step('"cache":{"policy":"ttl","duration_seconds":1e300}'))).toMatchObject({
      code: 'invalid_ir',
    });
  });

  test('beyond each limit is refused', () => {
    const text = JSON.stringify(flatDocument);
    expect(planPipeline(text, { textLength: 100 })).toMatchObject({ code: 'too_large' });
    expect(planPipeline(text, { steps: 5 })).toMatchObject({ code: 'too_large' });
    expect(planPipeline(text, { envEntries: 1 })).toMatchObject({ code: 'too_large', step: 'deploy' });
    expect(planPipeline(text, { totalEnvEntries: 5 })).toMatchObject({ code: 'too_large' });
    expect(planPipeline(text, { envBytes: 12 })).toMatchObject({ code: 'too_large', step: 'deploy' });
    const graph = JSON.stringify(graphDocument);
    expect(planPipeline(graph, { steps: 3 })).toMatchObject({ code: 'too_large' });
    expect(planPipeline(graph, { edges: 4 })).toMatchObject({ code: 'too_large' });
    expect(planPipeline(graph, { edges: 5, steps: 4 })).toMatchObject({ ok: true });
  });

  test('of any JSON value never throws', () => {
    fc.assert(fc.property(fc.json(), (text) => expectSound(planPipeline(text))));
    fc.assert(fc.property(fc.string(), (text) => expectSound(planPipeline(text))));
  });

  test('mutated in any place is planned or refused with code and message', () => {
    const documents = [
      flatDocument,
      graphDocument,
      { ...evalDocument, graph: { ...evalDocument.graph, nodes: evalDocument.graph.nodes.slice(0, 1), edges: [] } },
    ];
    const junk = fc.oneof(
      fc.constantFrom<unknown>(
        null,
        undefined,
        '',
        0,
        -1,
        1,
        1.5,
        [],
        {},
        true,
        'base',
        'wait',
        '__proto__',
        '\0',
        '\ud800',
        'builds_in',
      ),
      fc.jsonValue(),
    );
    const mutation = fc.record({ path: fc.array(fc.nat({ max: 8 }), { minLength: 1, maxLength: 6 }), value: junk });
    fc.assert(
      fc.property(
        fc.constantFrom(...documents),
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        (document, mutations) => {
          const copy = structuredClone(document);
          for (const { path, value } of mutations) mutate(copy, path, value);
          expectSound(planPipeline(JSON.stringify(copy)));
        },
      ),
      { numRuns: 3_000 },
    );
  });

  test('with bytes changed is planned or refused', () => {
    const text = JSON.stringify(graphDocument);
    const change = fc.tuple(fc.nat({ max: text.length - 1 }), fc.string({ minLength: 0, maxLength: 2 }));
    fc.assert(
      fc.property(change, ([at, put]) => expectSound(planPipeline(text.slice(0, at) + put + text.slice(at + 1)))),
      { numRuns: 1_000 },
    );
  });
});

function mutate(target: unknown, path: readonly number[], value: unknown): void {
  let place = target as Record<string, unknown>;
  for (const turn of path.slice(0, -1)) {
    const names = Object.keys(place);
    const next = place[names[turn % Math.max(1, names.length)] ?? ''];
    if (typeof next !== 'object' || next === null) break;
    place = next as Record<string, unknown>;
  }
  const names = Object.keys(place);
  const name = names[path.at(-1)! % Math.max(1, names.length)];
  if (name === undefined) return;
  place[name] = value;
}

test('an acyclic graph is ordered whatever order its steps come in, and a circle is named', () => {
  const edge = fc.tuple(fc.nat({ max: 14 }), fc.nat({ max: 14 }));
  fc.assert(
    fc.property(fc.integer({ min: 15, max: 20 }), fc.array(edge, { maxLength: 25 }), (count, pairs) => {
      const ordered = orderSteps({
        count,
        from: Int32Array.from(pairs, ([from]) => from),
        to: Int32Array.from(pairs, ([, to]) => to),
      });
      const has = (from: number, to: number) => pairs.some((pair) => pair[0] === from && pair[1] === to);
      if (!ordered.ok) {
        for (const [i, index] of ordered.cycle.entries()) {
          expect(has(ordered.cycle[(i + 1) % ordered.cycle.length]!, index)).toBe(true);
        }
        return;
      }
      const rank = new Map([...ordered.order].map((index, at) => [index, at]));
      expect(rank.size).toBe(count);
      for (const [from, to] of pairs) {
        expect(rank.get(from)!).toBeLessThan(rank.get(to)!);
        expect(ordered.prerequisites[to]).toContain(from);
      }
      expect(ordered.prerequisites.flat().length).toBe(new Set(pairs.map(String)).size);
    }),
    { numRuns: 1_000 },
  );
});

describe('size', () => {
  test('a chain of 100,000 steps is planned in its order', () => {
    const steps = Array.from({ length: 100_000 }, (_, i) => ({
      type: 'command',
      key: `step-${i}`,
      cmd: `echo ${i}`,
      builds_in: i === 0 ? null : `step-${i - 1}`,
    }));
    const result = planPipeline(JSON.stringify({ version: '0', steps }));
    expect(result.ok && result.plan.steps.map(({ key }) => key)).toEqual(steps.map(({ key }) => key));
  });

  test('a million steps are refused, or planned when allowed', () => {
    const text = JSON.stringify({
      version: '0',
      steps: Array.from({ length: 1_000_000 }, (_, i) => ({ type: 'command', key: `${i}`, cmd: '' })),
    });
    expect(planPipeline(text)).toMatchObject({ code: 'too_large' });
    expect(planPipeline(text, { steps: 1_000_000 })).toMatchObject({ ok: true });
  });
});
