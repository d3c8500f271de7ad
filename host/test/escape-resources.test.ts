import { mkdtemp, readFile, rm, watch, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCgroup } from '../cgroup-capsule.ts';
import { readCgroupHierarchy } from '../cgroup-hierarchy.ts';
import { createContainerDriver } from '../container-driver.ts';
import type { Machine } from '../machine-driver.ts';
import { buildHostileProgram } from './hostile-program.ts';
import { type HostileRun, hostileRunner } from './hostile-run.ts';
import { openTestDriver, runInside, type TestDriver } from './test-driver.ts';

const megabyte = 2 ** 20;
let test: TestDriver;
let neighbour: Machine;

beforeAll(async () => {
  test = await openTestDriver();
  await buildHostileProgram(join(test.imageDir, 'bin/hostile-probe'));
  neighbour = await test.driver.create(test.spec('neighbour'));
});
afterAll(() => test.end());

const run = (hostile: HostileRun) => hostileRunner(test, { intervalMs: 100 })(hostile);

/** The neighbour answers while the attack goes on, and nothing but the neighbour is left after it. */
async function expectWell(): Promise<void> {
  const startedAt = performance.now();
  expect((await runInside(neighbour, 'echo well')).stdout).toBe('well\n');
  expect(performance.now() - startedAt).toBeLessThan(2_000);
}
const expectGone = async () => expect(await test.driver.list()).toEqual(['neighbour']);

describe('a job', () => {
  it('that forks without end is held by its limit and is ended at its time', async () => {
    // Enough memory for the kernel's share of 64 processes that are made and end all the time: the limit under test is another one.
    const shape = { memoryBytes: 512 * megabyte };
    const ended = run({ text: '/bin/hostile-probe forks', shape, timeoutMs: 1_500 });
    const group = await pollForProcesses(20);
    await expectWell();
    expect(group).toBeLessThanOrEqual(64);
    expect((await ended).result).toEqual({ outcome: 'timed_out' });
    await expectGone();
  });

  it.each([
    ['in a process', 'dd if=/dev/zero of=/dev/null bs=100M count=1'],
    ['in the kernel, by sockets nobody reads', '/bin/hostile-probe streams'],
    [
      'in many small processes',
      'for i in 1 2 3 4; do dd if=/dev/zero bs=30M count=1 2>/dev/null | sleep 1 & done; wait; exit 1',
    ],
  ])('that takes too much memory %s ends as out of memory', async (_, text) => {
    expect((await run({ text })).result).toMatchObject({ outcome: 'failed', code: 'out_of_memory' });
    await expectWell();
    await expectGone();
  });

  it('that fills /dev/shm fills its own memory and no more', async () => {
    const { result, output } = await run({
      text: 'dd if=/dev/zero of=/dev/shm/a bs=1M count=1000 2>&1; dd if=/dev/zero of=/dev/mqueue/a 2>&1; du -m /dev/shm | cut -f 1',
    });
    if (result.outcome === 'exited') expect(output).toMatch(/No space left[\s\S]*\n(32|31)\n$/);
    else expect(result).toMatchObject({ code: 'out_of_memory' });
    await expectGone();
  });

  it('whose datagrams nobody reads holds no memory of the host with them', async () => {
    const { output } = await run({ text: '/bin/hostile-probe datagrams' });
    expect(Number.parseInt(output, 10)).toBeLessThan(64 / 2);
    await expectGone();
  });

  it.each(['watchers', 'descriptors', 'pipes'])(
    'that takes all %s leaves enough for the host and others',
    async (name) => {
      const ended = run({ text: `/bin/hostile-probe ${name}`, timeoutMs: 1_000 });
      await pollForProcesses(2);
      await expectWell();
      await expectFileWatching();
      const more = await runInside(neighbour, 'for i in 1 2 3; do echo x | cat | cat; done; ls /proc/self/fd | wc -l');
      expect(more.stdout).toMatch(/^x\nx\nx\n\d\n$/);
      expect(['timed_out', 'failed']).toContain((await ended).result.outcome);
      await expectGone();
    },
  );

  it.each([
    ['by writing', 'dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null; sleep 20'],
    ['in one moment and then passes', 'fallocate -l 64M /big'],
    [
      'in files it deletes while they are open',
      'exec 3>/big; rm /big; dd if=/dev/zero bs=1M count=64 >&3 2>/dev/null; sleep 20',
    ],
    ['with empty files', 'mkdir /many; cd /many; i=0; while [ $i -lt 5000 ]; do : > $i; i=$((i+1)); done; sleep 20'],
  ])('that fills its disk %s ends as disk full', async (_, text) => {
    const { result } = await run({ text, shape: { diskBytes: 16 * megabyte } });
    expect(result).toMatchObject({
      outcome: 'failed',
      code: 'disk_full',
      message: expect.stringMatching(/16 MiB|may have 4096/),
    });
    await expectWell();
    await expectGone();
  });

  it('that stays within its disk passes', async () => {
    const text =
      'dd if=/dev/zero of=/tmp/some bs=1M count=8 2>/dev/null; rm /tmp/some; dd if=/dev/zero of=/a bs=1M count=8 2>/dev/null';
    expect((await run({ text, shape: { diskBytes: 16 * megabyte } })).result).toMatchObject({
      outcome: 'exited',
      exitCode: 0,
    });
  });

  it('that wrote the most is ended when the host runs out of disk, and the others go on', async () => {
    const crowded = hostileRunner(test, { intervalMs: 200, reserveBytes: Number.MAX_SAFE_INTEGER / 2 });
    const large = crowded({ text: 'dd if=/dev/zero of=/big bs=1M count=32 2>/dev/null; sleep 20' });
    const small = crowded({ text: 'sleep 0.6', timeoutMs: 10_000 });
    await expect(large).resolves.toMatchObject({
      result: { code: 'disk_full', message: expect.stringMatching(/the host has only/) },
    });
    expect(['exited', 'failed']).toContain((await small).result.outcome);
    await expectGone();
  });

  it('that kills all it can see only ends itself', async () => {
    const { result } = await run({ text: 'kill -9 -1; kill -9 1; exit 7' });
    expect(result.outcome).toBe('exited');
    await expectWell();
    await expectGone();
  });
});

describe('a program in the place of the agent', () => {
  it('that sends garbage and frames without end ends its capsule and nothing else', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
    const agentPath = join(dataDir, 'hostile-agent');
    await buildHostileProgram(agentPath);
    const honest = await openTestDriver();
    // The runtime is known, or this agent would have to pass the trial of it.
    const probe = await readFile(join(honest.dataDir, 'runtime-probe.json'));
    await writeFile(join(dataDir, 'runtime-probe.json'), probe);
    const driver = await createContainerDriver({ dataDir, agentPath, networkPoolSize: 0, blankPoolSize: 0 });
    try {
      const before = process.memoryUsage().rss;
      const machine = await driver.create({ ...honest.spec('garbage'), layers: [honest.imageDir] });
      await expect(machine.guest.ping()).rejects.toMatchObject({
        code: expect.stringMatching(/guest_(protocol|lost)/),
      });
      expect(await machine.guest.closed).toMatch(/malformed|protocol/);
      expect(process.memoryUsage().rss - before).toBeLessThan(64 * megabyte);
      await machine.destroy();
      expect(await driver.list()).toEqual([]);
    } finally {
      await driver.close();
      await honest.end();
      await rm(dataDir, { recursive: true, force: true });
    }
  });
});

/** What the host itself needs of the things a capsule could take all of. */
async function expectFileWatching(): Promise<void> {
  const stop = new AbortController();
  const events = watch(test.dataDir, { signal: stop.signal });
  const next = events[Symbol.asyncIterator]().next();
  stop.abort();
  await expect(next).rejects.toMatchObject({ name: 'AbortError' });
}

/** Waits until the newest capsule has so many processes; returns how many. */
async function pollForProcesses(count: number): Promise<number> {
  const { installationId } = JSON.parse(await readFile(join(test.dataDir, 'installation.json'), 'utf8'));
  const hierarchy = await readCgroupHierarchy();
  const read = async () => {
    const id = (await test.driver.list()).find((name) => name !== 'neighbour');
    const state = await readFile(join(test.dataDir, `capsules/${id}/state.json`), 'utf8').catch(() => null);
    if (state === null) return 0;
    return (await openCgroup(hierarchy, `caisson/${installationId}/${JSON.parse(state).vesselId}`).processes()).length;
  };
  await expect.poll(read, { timeout: 5_000, interval: 20 }).toBeGreaterThanOrEqual(count);
  return read();
}
