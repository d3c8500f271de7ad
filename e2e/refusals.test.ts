import { readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { startRegistry } from '../host/test/image-test-registry.ts';
import { type ArchiveEntry, archiveOf, tarOf } from '../host/test/source-archive.ts';
import { tempDir } from '../host/test/temp-dir.ts';
import { type Builds, ir } from './builds.ts';
import { type Rig, startRig } from './rig.ts';

const deaf = 'trap "" TERM; echo deaf; while :; do sleep 1; done';
/** The fixed time between SIGTERM and SIGKILL, and what everything around it may take on a busy machine. */
const graceMs = 10_000;
const slackMs = 15_000;

let rig: Rig;
let builds: Builds;
beforeAll(async () => {
  rig = await startRig({ CAISSON_JOB_MEMORY_MIB: '256' });
  ({ builds } = await rig.up());
});
// What was refused, canceled or killed in all of these together has left nothing.
afterAll(() => rig.end());

/** Each refusal of a plan has its own code; here two stand for them. */
test.concurrent.each([
  ['{', /invalid_json/],
  [ir({ a: ['true', { buildsIn: 'b' }] }), /unknown_dependency|"b"|b/],
])('the plan %s is refused with the reason', async (pipelineIr, reason) => {
  await expect(builds.create({ pipeline_ir: pipelineIr })).rejects.toMatchObject({
    code: 'build_plan_rejected',
    message: expect.stringMatching(reason),
  });
});

test.concurrent('an image that does not exist is an error that names it, within seconds', async () => {
  const registry = await startRegistry(await tempDir());
  onTestFinished(() => registry.stop());
  const image = `${registry.host}/nothing:1`;
  const number = await builds.create({ pipeline_ir: ir({ a: ['true', { image }] }) });
  const { build, jobs } = await builds.ended(number, slackMs);
  expect(build.state).toBe('failed');
  expect(jobs.a).toMatchObject({ state: 'failed', error_code: 'image_unavailable' });
  expect(jobs.a?.error_message).toMatch(/nothing:1 does not exist in the registry/);
});

test.concurrent('a pull that does not come forward is canceled with the build', async () => {
  const asked = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    if (request.url === '/v2/') response.end('{}');
    else asked.resolve();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const image = `127.0.0.1:${(server.address() as AddressInfo).port}/slow:1`;
  const number = await builds.create({ pipeline_ir: ir({ a: ['true', { image }] }) });
  await asked.promise;
  const canceledMs = performance.now();
  await builds.cancel(number);
  const { build, jobs } = await builds.ended(number, slackMs);
  expect({ build: build.state, job: jobs.a?.state }).toEqual({ build: 'canceled', job: 'canceled' });
  expect(performance.now() - canceledMs).toBeLessThan(slackMs);
});

const hostile: readonly (readonly [string, readonly ArchiveEntry[]])[] = [
  ['climber', [{ name: 'climber/../../../x', content: 'x' }]],
  ['/absolute', [{ name: '/absolute', content: 'x' }]],
  [
    'link/x',
    [
      { name: 'link', type: 'symlink', linkname: '/etc' },
      { name: 'link/x', content: 'x' },
    ],
  ],
];
test.concurrent.each(hostile)('a source with the entry %s is refused by its name', async (name, entries) => {
  const source_digest = await builds.upload(archiveOf(await tarOf(entries)).bytes);
  const number = await builds.create({ pipeline_ir: ir({ a: ['true'] }), source_digest });
  const { jobs } = await builds.ended(number);
  expect(jobs.a).toMatchObject({ state: 'failed', error_code: 'source_invalid' });
  expect(jobs.a?.error_message).toContain(name);
});

test.concurrent('a source is unpacked where the command runs, links and all', async () => {
  const entries: ArchiveEntry[] = [
    { name: 'hello.sh', content: 'echo hello from the source', mode: 0o755 },
    { name: 'link', type: 'symlink', linkname: 'hello.sh' },
  ];
  const source_digest = await builds.upload(archiveOf(await tarOf(entries)).bytes);
  const number = await builds.create({ pipeline_ir: ir({ a: ['pwd; sh ./link'] }), source_digest });
  expect((await builds.ended(number)).build.state).toBe('passed');
  expect(await builds.log(number, 'a')).toBe('/workspace\nhello from the source\n');
});

test.concurrent('a command that ignores SIGTERM is ended by a cancel', async () => {
  const number = await builds.create({ pipeline_ir: ir({ a: [deaf] }) });
  await builds.logged(number, 'a', 'deaf');
  await builds.cancel(number);
  expect(['canceling', 'canceled']).toContain((await builds.show(number)).state);
  const { build, jobs } = await builds.ended(number, graceMs + slackMs);
  expect({ build: build.state, job: jobs.a?.state }).toEqual({ build: 'canceled', job: 'canceled' });
});

test.concurrent('a command that ignores SIGTERM is ended by its timeout', async () => {
  const number = await builds.create({ pipeline_ir: ir({ a: [deaf, { timeoutSeconds: 1 }] }) });
  const { build, jobs } = await builds.ended(number, graceMs + slackMs);
  expect({ build: build.state, job: jobs.a?.state }).toEqual({ build: 'failed', job: 'timed_out' });
});

test.concurrent('processes that left the group of the command and hold its output do not outlive it', async () => {
  const number = await builds.create({ pipeline_ir: ir({ a: ['setsid sleep 600 & echo started'] }) });
  expect((await builds.ended(number, slackMs)).build.state).toBe('passed');
  expect(await builds.log(number, 'a')).toBe('started\n');
});

test.concurrent('a command cannot kill the agent of its capsule', async () => {
  const script = 'sleep 600 & kill -9 -1; kill -9 1; kill -TERM 1; kill -SEGV 1; echo survived';
  const number = await builds.create({ pipeline_ir: ir({ a: [script] }) });
  expect((await builds.ended(number, slackMs)).build.state).toBe('passed');
  expect(await builds.log(number, 'a', 'stdout')).toBe('survived\n');
});

test.concurrent('a command that kills itself has failed by the signal', async () => {
  const number = await builds.create({ pipeline_ir: ir({ a: ['kill -9 $$'] }) });
  expect((await builds.ended(number)).jobs.a).toMatchObject({ state: 'failed', error_code: 'killed_by_signal' });
});

test.concurrent('a command that wants too much memory is out of memory', async () => {
  const hog = 'python3 -c \'held = [bytearray(b"x" * 2**20) for _ in range(1000)]\'';
  const number = await builds.create({ pipeline_ir: ir({ a: [hog] }) });
  const { jobs } = await builds.ended(number);
  expect(jobs.a).toMatchObject({ state: 'failed', error_code: 'out_of_memory' });
  expect(jobs.a?.error_message).toContain('256 MiB');
});

test('a capsule that dies is replaced by a new one and the job passes', async () => {
  const number = await builds.create({ pipeline_ir: ir({ a: ['echo begun; sleep 3; echo done'] }) });
  await builds.logged(number, 'a', 'begun');
  process.kill(await capsuleInit(), 'SIGKILL');
  const { build } = await builds.ended(number);
  expect(build.state).toBe('passed');
  expect(await builds.log(number, 'a', 'stdout')).toBe('begun\nbegun\ndone\n');
});

/** The init of the one capsule that runs something, as the host numbers it: beside it there are blank ones. */
async function capsuleInit(): Promise<number> {
  const text = await readFile(join(rig.dataDir, 'host', 'installation.json'), 'utf8');
  const groups = `/sys/fs/cgroup/pids/caisson/${JSON.parse(text).installationId}`;
  const names = (await readdir(groups, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const processes = await Promise.all(
    names.map(async ({ name }) => (await readFile(join(groups, name, 'cgroup.procs'), 'utf8')).trim().split('\n')),
  );
  const running = processes.filter((pids) => pids.length > 1);
  expect(running).toHaveLength(1);
  const statuses = running.flat().map((pid) => readFile(`/proc/${pid}/status`, 'utf8'));
  // The host's numbers start again from below when they have all been used.
  const init = (await Promise.all(statuses)).find((status) => /^NSpid:.*\t1$/m.test(status));
  return Number(/^Pid:\t(\d+)$/m.exec(init ?? '')?.[1]);
}
