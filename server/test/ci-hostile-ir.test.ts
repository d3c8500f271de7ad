import { evalDocument, flatDocument, graphDocument } from '@caisson/core/test/plan-documents';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CiRig, ciRig } from './ci-rig.ts';

let rig: CiRig;
let pipeline: string;
beforeAll(async () => {
  rig = await ciRig();
  pipeline = await rig.pipeline();
});
afterAll(() => rig.close());

const junk = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    0,
    -1,
    1.5,
    [],
    {},
    true,
    'base',
    '__proto__',
    '\0',
    '\ud800',
    'x'.repeat(140_000),
  ),
  fc.jsonValue(),
);
const mutation = fc.record({ turns: fc.array(fc.nat({ max: 8 }), { minLength: 1, maxLength: 6 }), value: junk });
const documents = fc.constantFrom<object>(flatDocument, graphDocument, evalDocument);

/** Walks into the document by counting keys and puts the value at the end of the way. */
function mutate(target: unknown, turns: readonly number[], value: unknown): void {
  let place = target as Record<string, unknown>;
  for (const [index, turn] of turns.entries()) {
    const names = Object.keys(place);
    const name = names[turn % Math.max(1, names.length)];
    if (name === undefined) return;
    const next = place[name];
    if (index === turns.length - 1 || typeof next !== 'object' || next === null) {
      place[name] = value;
      return;
    }
    place = next as Record<string, unknown>;
  }
}

async function send(pipelineIr: string): Promise<void> {
  const { status, json } = await rig.create(pipeline, pipelineIr);
  if (status === 201) {
    await rig.call('PUT', `/api/v0/organizations/local/pipelines/${pipeline}/builds/${json.number}/cancel`);
    return;
  }
  expect({ status, error: json.error }).toMatchObject({
    status: 422,
    error: { code: expect.any(String), message: expect.stringMatching(/\S/), doc_url: expect.any(String) },
  });
}

test('a document of any dialect, mutated in any place, is planned or refused with code and message, and never a failure', async () => {
  const sample = fc.tuple(documents, fc.array(mutation, { minLength: 1, maxLength: 3 }));
  await fc.assert(
    fc.asyncProperty(sample, async ([document, mutations]) => {
      const copy = structuredClone(document);
      for (const { turns, value } of mutations) mutate(copy, turns, value);
      await send(JSON.stringify(copy));
    }),
    { numRuns: 120 },
  );
});

test('a document with bytes changed is planned or refused, and never a failure', async () => {
  const text = JSON.stringify(graphDocument);
  const change = fc.tuple(fc.nat({ max: text.length - 1 }), fc.string({ minLength: 0, maxLength: 2 }));
  await fc.assert(
    fc.asyncProperty(change, ([at, put]) => send(text.slice(0, at) + put + text.slice(at + 1))),
    { numRuns: 60 },
  );
});
