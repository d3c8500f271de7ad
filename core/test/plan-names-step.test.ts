import { expect, test } from 'vitest';
import { planPipeline } from '../plan-pipeline.ts';
import { evalDocument, flatDocument, graphDocument } from './plan-documents.ts';

const junk: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1.5, 1e308, '', ' ', 'x', '\0', '\ud800', 'x'.repeat(200_000)],
  ...[[], [[]], [null], ['x'], [1], {}, { type: 'x' }, { policy: 'x' }, { __proto__: null, a: { b: [] } }],
];

type Json = Record<string, unknown>;

/** Every object within a step of a document, with the step's place. */
function* objectsOf(value: unknown): Generator<Json> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield value as Json;
  for (const each of Object.values(value)) yield* objectsOf(each);
}

test.each([
  ['flat', flatDocument, (document: Json) => document.steps as Json[]],
  ['graph', graphDocument, (document: Json) => (document.graph as Json).nodes as Json[]],
  ['graph with eval', evalDocument, (document: Json) => (document.graph as Json).nodes as Json[]],
] as const)(
  'whatever stands in a field of a step in the %s dialect, a refusal names a step',
  (_, original, stepsOf) => {
    const steps = stepsOf(original as Json);
    const nameless: string[] = [];
    let refusals = 0;
    for (const index of steps.keys()) {
      const places = [...objectsOf(steps[index])].flatMap((object, depth) =>
        [...Object.keys(object), 'another'].map((field) => ({ depth, field })),
      );
      for (const { depth, field } of places) {
        for (const value of junk) {
          const document = structuredClone(original) as Json;
          const object = [...objectsOf(stepsOf(document)[index])][depth];
          if (object === undefined) continue;
          object[field] = value;
          const result = planPipeline(JSON.stringify(document));
          if (result.ok) continue;
          refusals += 1;
          const isNamed = result.step !== null && result.message.includes(result.step);
          if (!isNamed) nameless.push(`${index} ${field}=${JSON.stringify(value)?.slice(0, 40)}: ${result.message}`);
        }
      }
    }
    expect(refusals).toBeGreaterThan(50);
    expect(nameless).toEqual([]);
  },
);
