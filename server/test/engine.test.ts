import { randomUUID } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { changeBuild } from '../engine/transition.ts';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { ir } from './ir.ts';
import { exited, type Script, type ScriptedHost, scriptedHost } from './scripted-host.ts';

let rig: EngineRig;
let host: ScriptedHost;

async function start(script: Script): Promise<void> {
  host = scriptedHost(script);
  rig = await engineRig([host]);
}

afterEach(() => rig.close());

const diamond = ir({
  install: ['install'],
  left: ['left', 'install'],
  right: ['right', 'install'],
});

test('a build of forks passes, and children start from the disk their parent sealed', async () => {
  await start(() => exited(0));
  const { build, rejection } = await rig.build(diamond);
  expect(rejection).toBeNull();
  const ended = await rig.ended(build.id);
  expect(ended.status).toBe('passed');
  expect(ended.started_at).not.toBeNull();
  const [install, ...children] = host.taken;
  expect(install?.base).toEqual({ image: 'minimal' });
  expect(install?.sealAs).toBe(install?.leaseId);
  expect(children.map(({ base }) => base)).toEqual([{ layerId: install?.leaseId }, { layerId: install?.leaseId }]);
  expect(children.every(({ sealAs }) => sealAs === null)).toBe(true);
});

test('a command sees the environment of build, pipeline and step, and where it is', async () => {
  await start(() => exited(0));
  const { build } = await rig.build(ir({ only: ['env'] }, { env: { FROM_PIPELINE: '1', FROM_BUILD: 'no' } }));
  await rig.ended(build.id);
  expect(host.taken[0]?.env).toMatchObject({
    FROM_PIPELINE: '1',
    FROM_BUILD: 'yes',
    CI: 'true',
    CAISSON_BUILD_NUMBER: '1',
    CAISSON_PIPELINE: 'ci',
    CAISSON_BRANCH: 'main',
    CAISSON_JOB_KEY: 'only',
  });
});

test('a failure skips what depends on it and lets the rest finish', async () => {
  await start(({ assignment }) => exited(assignment.work.kind === 'shell' && assignment.work.text === 'left' ? 3 : 0));
  const { build } = await rig.build(
    ir({ install: ['install'], left: ['left', 'install'], right: ['right', 'install'], after: ['after', 'left'] }),
  );
  expect((await rig.ended(build.id)).status).toBe('failed');
  const jobs = await rig.jobs(build.id);
  expect(jobs.left).toMatchObject({ status: 'failed', exit_code: 3 });
  expect(jobs.right?.status).toBe('passed');
  expect(jobs.after?.status).toBe('skipped');
});

test('a refused graph is a failed build with the reason', async () => {
  await start(() => exited(0));
  const { build, rejection } = await rig.build('{"version":"0","steps":[]}');
  expect(rejection?.code).toBe('invalid_ir');
  expect(build).toMatchObject({ status: 'failed', error_code: 'invalid_ir' });
  expect(build.finished_at).not.toBeNull();
});

test('a pipeline is rendered on a host and its printed graph becomes the jobs', async () => {
  await start(({ assignment, print }) => {
    if (assignment.work.kind === 'render') print(diamond);
    return exited(0);
  });
  const { build, rejection } = await rig.build(null, { sourceDigest: 'a'.repeat(64) });
  expect(rejection).toBeNull();
  expect(build.planned_at).not.toBeNull();
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect(host.taken[0]).toMatchObject({ work: { kind: 'render', organization: 'local' }, egress: 'none' });
  expect(host.taken).toHaveLength(4);
});

test('a rendering that fails refuses the build with what it said', async () => {
  await start(({ print }) => {
    print('pipeline.ts:3 no such step\n');
    return exited(1);
  });
  const { rejection } = await rig.build(null, { sourceDigest: 'a'.repeat(64) });
  expect(rejection).toEqual({ code: 'render_failed', message: 'pipeline.ts:3 no such step' });
});

test('a cancel ends running and waiting jobs, whatever the host reports', async () => {
  await start(async ({ canceled }) => {
    await canceled;
    return exited(0);
  });
  const { build } = await rig.build(diamond);
  await rig.until(build.id, (_build, jobs) => jobs.some(({ status }) => status === 'running'));
  await rig.engine.cancelBuild(build.id);
  expect((await rig.ended(build.id)).status).toBe('canceled');
  const jobs = await rig.jobs(build.id);
  expect(Object.values(jobs).map(({ status }) => status)).toEqual(['canceled', 'canceled', 'canceled']);
});

test('a cancel with no host at all ends at once, and a finished build stays as it is', async () => {
  host = scriptedHost(() => exited(0));
  rig = await engineRig([]);
  const { build } = await rig.build(diamond);
  await rig.engine.cancelBuild(build.id);
  const ended = await rig.ended(build.id);
  expect(ended.status).toBe('canceled');
  await rig.engine.cancelBuild(build.id);
  await changeBuild(
    {
      ...{ db: rig.db, newId: randomUUID, effects: { enqueue: async () => {} } },
      notifications: { tell: async () => {}, wake: () => {} },
    },
    build.id,
    (change) => change.apply({ kind: 'build_timeout' }),
  );
  expect(await rig.ended(build.id)).toEqual(ended);
});

test('a cancel while the pipeline is rendered ends the build', async () => {
  await start(async ({ canceled }) => {
    await canceled;
    return { outcome: 'canceled' };
  });
  const created = rig.build(null, { sourceDigest: 'a'.repeat(64) });
  const found = await waitForBuild();
  await rig.until(found, (_build, jobs) => jobs.some(({ status }) => status === 'running'));
  await rig.engine.cancelBuild(found);
  expect((await rig.ended(found)).status).toBe('canceled');
  expect((await created).build.status).toBe('canceled');
});

test('the time of a whole build ends it with its own code', async () => {
  await start(async ({ canceled }) => ({ outcome: (await canceled) === 'timed_out' ? 'timed_out' : 'canceled' }));
  const { build } = await rig.build(ir({ only: ['sleep'] }, { timeout_seconds: 1 }));
  expect(await rig.ended(build.id)).toMatchObject({ status: 'failed', error_code: 'pipeline_timeout' });
  expect((await rig.jobs(build.id)).only?.status).toBe('timed_out');
});

test('output is stored once and in order, also when the host repeats it', async () => {
  const go = Promise.withResolvers<void>();
  await start(async ({ print }) => {
    for (let line = 1; line <= 5; line += 1) print(`line ${line}\n`);
    await go.promise;
    print('end\n');
    return exited(0);
  });
  const { build } = await rig.build(ir({ only: ['talk'] }));
  await rig.until(build.id, (_build, jobs) => jobs.some(({ status }) => status === 'running'));
  host.repeat();
  go.resolve();
  await rig.ended(build.id);
  const chunks = await rig.db.selectFrom('log_chunks').selectAll().orderBy('seq').execute();
  expect(chunks.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(Buffer.concat(chunks.map(({ content }) => content)).toString()).toBe(
    'line 1\nline 2\nline 3\nline 4\nline 5\nend\n',
  );
});

test('a host that reports very many small things at once is heard', async () => {
  const count = 15_000;
  await start(({ print }) => {
    for (let line = 1; line <= count; line += 1) print(`${line}\n`);
    return exited(0);
  });
  const { build } = await rig.build(ir({ only: ['talk'] }));
  expect((await rig.ended(build.id)).status).toBe('passed');
  const chunks = await rig.db.selectFrom('log_chunks').selectAll().orderBy('seq').execute();
  const lines = Buffer.concat(chunks.map(({ content }) => content)).toString();
  expect(lines).toBe(Array.from({ length: count }, (_, index) => `${index + 1}\n`).join(''));
});

test('a run the host has forgotten is given out again', async () => {
  let attempts = 0;
  await start(async ({ canceled }) => {
    attempts += 1;
    if (attempts === 1) await canceled;
    return exited(0);
  });
  const { build } = await rig.build(ir({ only: ['work'] }));
  await rig.until(build.id, (_build, jobs) => jobs.some(({ status }) => status === 'running'));
  host.wipe();
  expect((await rig.ended(build.id)).status).toBe('passed');
  expect((await rig.jobs(build.id)).only?.attempt).toBe(2);
  expect(host.taken.map(({ fence }) => fence).toSorted((a, b) => a - b)).toEqual(host.taken.map(({ fence }) => fence));
});

test('sealed disks are given back when the build is over', async () => {
  await start(() => exited(0));
  const { build } = await rig.build(diamond);
  await rig.ended(build.id);
  const sealed = host.taken[0]?.leaseId;
  await expect.poll(() => host.released, { timeout: 10_000 }).toEqual([sealed]);
});

test('two control planes share one database and one host without doing anything twice', async () => {
  await start(() => exited(0));
  await rig.another();
  const builds = await Promise.all(Array.from({ length: 10 }, () => rig.build(diamond)));
  for (const { build } of builds) expect((await rig.ended(build.id)).status).toBe('passed');
  expect(host.taken).toHaveLength(30);
  expect(new Set(builds.map(({ build }) => build.number)).size).toBe(10);
});

async function waitForBuild(): Promise<string> {
  return expect
    .poll(async () => (await rig.db.selectFrom('builds').select('id').execute())[0]?.id)
    .toBeDefined()
    .then(async () => (await rig.db.selectFrom('builds').select('id').executeTakeFirstOrThrow()).id);
}
