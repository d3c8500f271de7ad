import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CiRig, ciRig } from './ci-rig.ts';
import { chunkText, readEvents } from './event-reader.ts';
import { ir } from './ir.ts';
import { exited, scriptedHost } from './scripted-host.ts';

const mebibyte = 2 ** 20;
const go = Promise.withResolvers<void>();
const lines = Array.from({ length: 60 }, (_, index) => `line ${index + 1}\n`);
const host = scriptedHost(async ({ print }) => {
  await go.promise;
  for (const line of lines) {
    print(line);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return exited(0);
});

let rig: CiRig;
let pipeline: string;
beforeAll(async () => {
  rig = await ciRig({ hosts: [host] });
  pipeline = await rig.pipeline();
});
afterAll(() => rig.close());

test('five hundred readers of one job each get every line once and in order', async () => {
  const build = await rig.build(pipeline, ir({ a: ['a'] }));
  const url = await rig.logUrl(build.id, 'a');
  const before = process.memoryUsage().rss;
  const readers = await Promise.all(Array.from({ length: 500 }, () => readEvents(url)));
  for (const reader of readers) expect(await reader.next()).toMatchObject({ event: 'history', data: { chunks: [] } });
  go.resolve();
  const texts = await Promise.all(readers.map(async (reader) => chunkText(await reader.rest())));
  expect(new Set(texts)).toEqual(new Set([lines.join('')]));
  expect(process.memoryUsage().rss - before).toBeLessThan(400 * mebibyte);
}, 120_000);

test('documents as large as a body may be are planned or refused, several at once, and the door stays open', async () => {
  const before = process.memoryUsage().rss;
  const steps = Array.from({ length: 700 }, (_, index) => [`step-${index}`, [`true ${'x'.repeat(10_000)}`]] as const);
  const large = ir(Object.fromEntries(steps));
  const send = (pipelineIr: string) => rig.create(pipeline, pipelineIr);
  const answers = await Promise.all([
    send(large),
    send(large.replace('"step-699"', '"step-0"')),
    send('x'.repeat(7_900_000)),
    send(`[${'{},'.repeat(2_600_000)}{}]`),
    send('x'.repeat(8_000_000)),
    rig.call('GET', '/api/v0/user'),
  ]);
  expect(answers.map(({ status }) => status)).toEqual([201, 422, 422, 422, 413, 200]);
  for (const { status, json } of answers) {
    if (status >= 400) expect(json.error).toMatchObject({ code: expect.any(String), message: expect.any(String) });
  }
  await rig.call('PUT', `/api/v0/organizations/local/pipelines/${pipeline}/builds/${answers[0]?.json.number}/cancel`);
  expect(process.memoryUsage().rss - before).toBeLessThan(600 * mebibyte);
}, 120_000);
