import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Machine, MemorySnapshots } from '../machine-driver.ts';
import { countIn, expectCounting } from './counting.ts';
import { gvisorProblem, openGvisorTestDriver } from './gvisor-test-driver.ts';
import { openPublicServer, type PublicServer } from './hostile-network.ts';
import { runInside, type TestDriver } from './test-driver.ts';

const problem = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** Counts in memory, in a file system in memory and on the disk, each time in all of them. */
const count = `(i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; echo $i > /root/count; sleep 0.1; done) >/dev/null 2>&1 &`;
const countPath = '/root/count';
const counted = countIn(countPath);

describe.skipIf(problem !== null)('the memory of a gVisor capsule', () => {
  let test: TestDriver;
  let memory: MemorySnapshots;
  let server: PublicServer;
  beforeAll(async () => {
    [test, server] = await Promise.all([openGvisorTestDriver(), openPublicServer()]);
    if (test.driver.memory === undefined) throw new Error('it keeps no memory');
    memory = test.driver.memory;
  });
  afterAll(async () => {
    await server.end();
    await test.end();
  });

  const layerDir = (name: string) => join(test.dataDir, 'layers', name);
  const forkSpec = (name: string, layer: string, egress: 'none' | 'internet' = 'none') =>
    test.spec(name, { egress, layers: [layerDir(layer), test.imageDir] });

  async function fork(name: string, layer: string, egress?: 'internet'): Promise<Machine> {
    return memory.restore(layerDir(layer), forkSpec(name, layer, egress));
  }

  async function expectGoingOn(machine: Machine): Promise<void> {
    await runInside(machine, 'kill -USR1 $(cat /tmp/pid)');
    const heard = await runInside(machine, 'until grep . /tmp/heard; do sleep 0.05; done');
    expect(heard.stdout).toBe(`${machine.capsuleId}\n`);
    await expectCounting(machine, countPath);
    const reached = await runInside(machine, `nc -w 3 ${server.address} 7001 </dev/null`);
    expect(reached.stdout).toBe('secret\n');
  }

  it('goes on in every fork, each with a name, an address, the time and random numbers of its own', async () => {
    const parent = await test.driver.create(test.spec('parent', { egress: 'internet' }));
    const remember =
      'trap "cat /proc/sys/kernel/hostname > /tmp/heard" USR1; echo $$ > /tmp/pid; while :; do sleep 0.05; done';
    await runInside(parent, `${count} sh -c '${remember}' >/dev/null 2>&1 &`);
    await runInside(parent, `${counted}; until test -s /tmp/pid; do sleep 0.05; done`);
    await memory.snapshot('parent', layerDir('shared'));
    const names = ['left', 'right', 'a-longer-name-than-the-others'];
    const forks = await Promise.all(names.map((name) => fork(name, 'shared', 'internet')));
    const own = 'hostname; cat /etc/hostname; ip -4 addr show eth0 | grep inet; date +%s';
    const said = await Promise.all(forks.map((each) => runInside(each, own)));
    const lines = said.map(({ stdout }) => stdout.split('\n'));
    expect(lines.map(([hostname, file]) => [hostname, file])).toEqual(names.map((name) => [name, name]));
    expect(new Set(lines.map((each) => each[2])).size).toBe(names.length);
    for (const each of lines) expect(Math.abs(Number(each[3]) - Date.now() / 1000)).toBeLessThan(60);
    const draw = 'od -An -v -tx8 -w16 -N272 /dev/urandom';
    const drawn = await Promise.all(forks.map((each) => runInside(each, draw)));
    const numbers = drawn.flatMap(({ stdout }) => stdout.trim().split('\n'));
    expect(new Set(numbers).size).toBe(51);
    await Promise.all([parent, ...forks].map(expectGoingOn));
    await Promise.all([parent, ...forks].map((each) => each.destroy()));
  });

  it('and its disk are of one moment; the disk serves without the memory as well', async () => {
    const parent = await test.driver.create(test.spec('parent'));
    await runInside(parent, count);
    await runInside(parent, counted);
    await memory.snapshot('parent', layerDir('moment'));
    await parent.destroy();
    const plain = await test.driver.create(forkSpec('plain', 'moment'));
    const { stdout: atSnapshot } = await runInside(plain, 'cat /root/count; ls -A /.caisson/memory');
    const goingOn = await fork('going-on', 'moment');
    const { stdout: counts } = await runInside(goingOn, 'cat /dev/shm/count /root/count');
    for (const later of counts.trim().split('\n')) expect(Number(later)).toBeGreaterThanOrEqual(Number(atSnapshot));
    await Promise.all([plain.destroy(), goingOn.destroy()]);
  });

  it('cannot be kept while a program holds a removed file; the capsule goes on', async () => {
    const machine = await test.driver.create(test.spec('holder'));
    const hold = await machine.guest.exec({
      argv: ['/bin/sh', '-c', 'exec 9>/root/gone; rm /root/gone; echo held; exec sleep 1000'],
      env: { PATH: '/bin' },
      cwd: '/',
    });
    for await (const _ of hold.output()) break;
    const failure = { code: 'snapshot_failed', message: expect.stringContaining('the file /root/gone open') };
    await expect(memory.snapshot('holder', layerDir('held'))).rejects.toMatchObject(failure);
    await expect(memory.suspend('holder')).rejects.toMatchObject(failure);
    hold.kill(9);
    await hold.exit;
    await memory.snapshot('holder', layerDir('held'));
    await machine.destroy();
  });

  it('sleeps and wakes on the next host, and no host takes up one that sleeps', async () => {
    const machine = await test.driver.create(test.spec('sleeper', { egress: 'internet' }));
    await runInside(machine, count);
    await runInside(machine, counted);
    await memory.suspend('sleeper');
    await expect(machine.died).resolves.toMatchObject({ outOfMemory: false });
    expect(await test.driver.adopt('sleeper')).toBeNull();
    const woken = await memory.wake(test.spec('sleeper', { egress: 'internet' }));
    await expectCounting(woken, countPath);
    await expect(memory.wake(test.spec('sleeper'))).rejects.toMatchObject({ code: 'snapshot_failed' });
    await woken.destroy();
  });

  it('is not what a capsule says it is', async () => {
    const forger = await test.driver.create(test.spec('forger'));
    await runInside(forger, 'mkdir /.caisson/memory; echo "{}" > /.caisson/memory/capsule.json');
    const { upperDir } = await forger.stop();
    await expect(memory.restore(upperDir, test.spec('forged'))).rejects.toMatchObject({ code: 'snapshot_failed' });
    await expect(memory.snapshot('nobody', layerDir('x'))).rejects.toMatchObject({ code: 'snapshot_failed' });
    expect(await readdir(join(test.dataDir, 'layers'))).not.toContain('x.new');
    await forger.destroy();
  });
});
