import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../config.ts';
import { type CiRig, ciRig } from './ci-rig.ts';
import { ir } from './ir.ts';

let rig: CiRig;
beforeAll(async () => {
  rig = await ciRig({ maxUnfinishedBuilds: 3 });
});
afterAll(() => rig.close());

const graph = ir({ test: ['npm test'] });

const start = (pipeline: string, organization?: string) => rig.create(pipeline, graph, organization);

test('an organization has so many unfinished builds and no more, over all of its pipelines', async () => {
  const [one, two] = [await rig.pipeline('one'), await rig.pipeline('two')];
  for (const pipeline of [one, two, one]) expect((await start(pipeline)).status).toBe(201);
  const { status, json } = await start(two);
  expect(status).toBe(429);
  expect(json.error).toMatchObject({
    code: 'build_queue_full',
    type: 'rate_limited',
    message: expect.stringMatching(/^3 builds of this organization are not over yet/),
  });
  const { count } = await rig.db
    .selectFrom('builds')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  expect(Number(count)).toBe(3);

  await rig.call('POST', '/api/v0/organizations', { json: { name: 'other' } });
  await rig.call('POST', '/api/v0/organizations/other/pipelines', {
    json: { name: 'own', repository: 'x/y', default_branch: 'main' },
  });
  expect((await start('own', 'other')).status).toBe(201);

  await rig.call('PUT', `/api/v0/organizations/local/pipelines/${one}/builds/1/cancel`);
  expect([(await start(two)).status, (await start(two)).status]).toEqual([201, 429]);
});

test('the limit is a setting', () => {
  expect(readConfig({}).maxUnfinishedBuilds).toBe(10_000);
  expect(readConfig({ CAISSON_MAX_UNFINISHED_BUILDS: '7' }).maxUnfinishedBuilds).toBe(7);
  expect(() => readConfig({ CAISSON_MAX_UNFINISHED_BUILDS: 'many' })).toThrow(/CAISSON_MAX_UNFINISHED_BUILDS is many/);
});
