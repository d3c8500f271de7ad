import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { ir } from './builds.ts';
import { reportMs } from './report.ts';
import { expectCleared, type Rig, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach(() => rig.stop());
afterAll(() => rig.end());

test('Ctrl-C waits for the jobs that run and starts no more', async () => {
  const up = await rig.up();
  const pipeline_ir = ir({
    first: ['echo begun; sleep 2; echo ended'],
    second: ['echo second', { buildsIn: 'first' }],
  });
  const number = await up.builds.create({ pipeline_ir });
  await up.builds.logged(number, 'first', 'begun');
  up.signal('SIGINT');
  expect(await up.ended).toBe(0);
  await expectCleared(rig.dataDir);

  const again = await rig.up();
  const { build } = await again.builds.ended(number);
  expect(build.state).toBe('passed');
  expect(await again.builds.log(number, 'first')).toBe('begun\nended\n');
});

test('connections nobody uses do not hold up the end', async () => {
  const up = await rig.up();
  const { hostname, port } = new URL(up.url);
  const silent = connect(Number(port), hostname);
  await once(silent, 'connect');
  up.signal('SIGINT');
  const startedMs = performance.now();
  expect(await up.ended).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(4_000);
});

test('a second Ctrl-C ends at once, and the next start gives the job out again', async () => {
  const up = await rig.up();
  const number = await up.builds.create({ pipeline_ir: ir({ a: ['echo begun; sleep 4; echo ended'] }) });
  await up.builds.logged(number, 'a', 'begun');
  const stoppedMs = performance.now();
  up.signal('SIGINT');
  await up.said('Ctrl-C ends them now');
  up.signal('SIGINT');
  expect(await up.ended).toBe(0);
  reportMs('second Ctrl-C with a job until the end', stoppedMs);
  expect(performance.now() - stoppedMs).toBeLessThan(8_000);
  await expectCleared(rig.dataDir);

  const again = await rig.up();
  const { build, jobs } = await again.builds.ended(number);
  expect({ build: build.state, job: jobs.a?.state }).toEqual({ build: 'passed', job: 'passed' });
  expect(await again.builds.log(number, 'a', 'stdout')).toBe('begun\nbegun\nended\n');
});

test('a port or socket that cannot be had is an error, and nothing of the start stays', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  onTestFinished(() => void other.close());
  const { port } = other.address() as AddressInfo;
  for (const words of [
    ['up', '--port', String(port)],
    ['host', '--socket', '/proc/nowhere/host.sock'],
  ]) {
    const program = rig.start(['--json', ...words]);
    expect(await program.ended).toBe(4);
    expect(JSON.parse(program.stdout())).toMatchObject({
      error: { code: 'cannot_listen', message: expect.stringMatching(/^cannot listen on /) },
    });
    await expectCleared(rig.dataDir);
  }
});
