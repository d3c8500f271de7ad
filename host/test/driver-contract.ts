import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GuestProcess } from '../guest-link.ts';
import { createLayerStore } from '../layer-disk.ts';
import type { Machine } from '../machine-driver.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { runInside } from './test-driver.ts';

const megabyte = 2 ** 20;

/**
 * What every body of `MachineDriver` does, as tests. A driver that cannot do something of it says so in `capabilities`; `lacks` names
 * what one cannot do yet.
 */
export function driverContract(
  name: string,
  open: () => Promise<DriverUnderTest>,
  lacks: { readonly network?: true } = {},
): void {
  describe(`the ${name} driver`, () => {
    let test: DriverUnderTest;
    beforeAll(async () => {
      test = await open();
      // What it can is known only now; a suite that ran less than it could is no success.
      if (!test.driver.capabilities.memorySnapshots) console.warn(`not for ${name}: snapshots that hold memory`);
    });
    afterAll(() => test.end());

    machineCases(() => test);
    lifeCases(() => test);
    limitCases(() => test, lacks);
    diskCases(() => test);
  });
}

/** Of one capsule that runs: processes and files. */
function machineCases(test: () => DriverUnderTest): void {
  describe('gives a capsule that', () => {
    let machine: Machine;
    beforeAll(async () => {
      machine = await test().driver.create(test().spec('one'));
    });
    afterAll(() => machine.destroy());

    it('answers, under its own name', async () => {
      expect(await machine.guest.ping()).toBeGreaterThan(0);
      expect((await runInside(machine, 'hostname')).stdout).toBe('one\n');
      expect(test().driver.capabilities.runtime).not.toBe('');
    });

    it.each([
      ['exit 0', 0, null],
      ['exit 42', 42, null],
      ['kill -9 $$', 137, 9],
    ])('tells how "%s" ended', async (script, exitCode, signal) => {
      const process = await machine.guest.exec({ argv: ['/bin/sh', '-c', script], env: {}, cwd: '/' });
      for await (const _ of process.output());
      expect(await process.exit).toEqual({ exitCode, signal, timedOut: false });
    });

    it('keeps both streams apart and their bytes as they are', async () => {
      const { stdout, stderr } = await runInside(machine, 'printf "a\\000b\\r"; printf "\\303" >&2');
      expect([stdout, stderr]).toEqual(['a\0b\r', '\ufffd']);
    });

    it('gives a process the environment, directory and user asked for and nothing else', async () => {
      const changes = { env: { PATH: '/bin', GREETING: 'hello' }, cwd: '/tmp', user: 'nobody' };
      const { stdout } = await runInside(machine, 'echo $GREETING $HOME; pwd; id -u', changes);
      expect(stdout).toBe('hello\n/tmp\n65534\n');
    });

    it('feeds a process what is written to it', async () => {
      const process = await machine.guest.exec({ argv: ['/bin/cat'], env: {}, cwd: '/', stdin: true });
      await process.write(Buffer.from('there and back'));
      process.closeStdin();
      expect(await textOf(process)).toBe('there and back');
    });

    it('ends a process and its children when its time is over', async () => {
      const process = await machine.guest.exec({
        argv: ['/bin/sh', '-c', 'sleep 100 & sleep 100'],
        env: {},
        cwd: '/',
        timeoutMs: 200,
      });
      expect((await process.exit).timedOut).toBe(true);
      await expect.poll(async () => (await runInside(machine, 'pgrep sleep')).stdout).toBe('');
    });

    it('refuses a program and a directory that are not there', async () => {
      const exec = (argv: [string], cwd: string) => machine.guest.exec({ argv, env: {}, cwd });
      await expect(exec(['/nowhere'], '/')).rejects.toMatchObject({ code: 'not_found' });
      await expect(exec(['/bin/sh'], '/nowhere')).rejects.toMatchObject({ code: 'not_found' });
    });

    it('takes, lists, gives and removes files', async () => {
      const { guest } = machine;
      const bytes = Buffer.alloc(300_000, 'x');
      await guest.mkdir('/made/here', { parents: true });
      await guest.writeFile('/made/here/file', pieces(bytes), { mode: 0o640 });
      expect(await guest.stat('/made/here/file')).toMatchObject({ type: 'file', sizeBytes: bytes.length });
      expect((await guest.list('/made/here')).map(({ name }) => name)).toEqual(['file']);
      expect(Buffer.concat(await all(guest.readFile('/made/here/file')))).toEqual(bytes);
      await guest.remove('/made', { recursive: true });
      await expect(guest.stat('/made')).rejects.toMatchObject({ code: 'not_found' });
    });

    it('stands still while it is paused and goes on from there', async () => {
      const { guest } = machine;
      await runInside(machine, '(while :; do echo x >> /tmp/ticks; sleep 0.01; done) >/dev/null 2>&1 &');
      const size = async () => (await guest.stat('/tmp/ticks')).sizeBytes;
      await expect.poll(() => size().catch(() => 0)).toBeGreaterThan(0);
      await machine.pause();
      const { cpuMs } = await machine.usage();
      const answer = guest.ping();
      await expect(Promise.race([answer, new Promise((done) => setTimeout(done, 50, 'frozen'))])).resolves.toBe(
        'frozen',
      );
      expect((await machine.usage()).cpuMs).toBe(cpuMs);
      await machine.resume();
      await answer;
      const before = await size();
      await expect.poll(size).toBeGreaterThan(before);
      await runInside(machine, 'kill -9 -1');
    });

    it('tells what it uses', async () => {
      const { memoryBytes, cpuMs } = await machine.usage();
      expect(memoryBytes).toBeGreaterThan(0);
      expect(cpuMs).toBeGreaterThanOrEqual(0);
      expect(await machine.wasOutOfMemory()).toBe(false);
    });
  });
}

/** From create to destroy. */
function lifeCases(test: () => DriverUnderTest): void {
  it('refuses a second capsule of the same id and leaves the first alone', async () => {
    const { driver, spec } = test();
    const machine = await driver.create(spec('twice'));
    await expect(driver.create(spec('twice'))).rejects.toMatchObject({ code: 'already_exists' });
    expect((await runInside(machine, 'echo alive')).stdout).toBe('alive\n');
    expect(await driver.list()).toEqual(['twice']);
    expect(await driver.adopt('twice')).toBe(machine);
    await machine.destroy();
  });

  it.each(['../escape', '', '-rf', 'a/b', 'a\0b'])('refuses %j as an id', async (id) => {
    await expect(test().driver.create(test().spec(id))).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('knows nothing of a capsule that never was', async () => {
    expect(await test().driver.adopt('never')).toBeNull();
    await test().driver.destroy('never');
  });

  it('destroys by id and by machine, again and again, and a dead capsule answers no more', async () => {
    const { driver, spec } = test();
    const machine = await driver.create(spec('brief'));
    await driver.destroy('brief');
    await machine.destroy();
    await expect(machine.died).resolves.toMatchObject({ outOfMemory: false });
    await expect(machine.guest.ping()).rejects.toMatchObject({ code: 'guest_lost' });
    expect(await driver.list()).toEqual([]);
  });

  it('leaves nothing of a capsule that could not be started', async () => {
    const { driver, dataDir, spec } = test();
    const start = driver.create(spec('broken', { layers: [join(dataDir, 'layers/none/diff')], egress: 'internet' }));
    await expect(start).rejects.toMatchObject({ code: 'provision_failed' });
    expect(await driver.list()).toEqual([]);
  });

  it('starts many at once, and each is alone', async () => {
    const { driver, spec } = test();
    const names = Array.from({ length: 6 }, (_, index) => `many-${index}`);
    const machines = await Promise.all(names.map((name) => driver.create(spec(name))));
    await Promise.all(machines.map((machine) => runInside(machine, 'hostname > /tmp/me')));
    const said = await Promise.all(machines.map((machine) => runInside(machine, 'cat /tmp/me')));
    expect(said.map(({ stdout }) => stdout.trim())).toEqual(names);
    await Promise.all(machines.map((machine) => machine.destroy()));
    expect(await driver.list()).toEqual([]);
  });
}

/** Limits, and what a capsule can reach. */
function limitCases(test: () => DriverUnderTest, lacks: { readonly network?: true }): void {
  it('holds the limits of memory and processes', async () => {
    const { driver, spec } = test();
    const shape = { cpus: 1, memoryBytes: 64 * megabyte, diskBytes: 2 ** 30, pids: 20 };
    const machine = await driver.create(spec('limited', { shape }));
    const { stderr } = await runInside(machine, 'i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done');
    expect(stderr).toMatch(/can't fork/);
    await runInside(machine, 'kill -9 -1');
    await runInside(machine, 'dd if=/dev/zero of=/dev/null bs=200M count=1').catch(() => {});
    expect(await machine.wasOutOfMemory()).toBe(true);
    await machine.destroy();
  });

  it('shows a directory of the host, which cannot be written to', async () => {
    const { driver, imageDir, spec } = test();
    const machine = await driver.create(spec('shown', { readOnlyBinds: [{ from: imageDir, to: '/opt/tools' }] }));
    const { stdout, exitCode } = await runInside(machine, 'ls /opt/tools/bin/sh; touch /opt/tools/x');
    expect({ stdout, failed: exitCode !== 0 }).toEqual({ stdout: '/opt/tools/bin/sh\n', failed: true });
    await machine.destroy();
  });

  if (lacks.network) console.warn('skipped: a way out of a capsule, which this driver cannot give yet');
  it.skipIf(lacks.network)('gives a way out only to a capsule that may have one', async () => {
    const { driver, spec } = test();
    const [closed, open] = await Promise.all([
      driver.create(spec('closed')),
      driver.create(spec('open', { egress: 'internet' })),
    ]);
    const routes = 'ip route | grep -c ^default';
    expect((await runInside(closed, routes)).stdout).toBe('0\n');
    expect((await runInside(open, routes)).stdout).toBe('1\n');
    await Promise.all([closed.destroy(), open.destroy()]);
  });
}

/** Disks as layers. */
function diskCases(test: () => DriverUnderTest): void {
  it('keeps what a stopped capsule wrote as a layer from which others start at once, each on its own', async () => {
    const { driver, dataDir, imageDir, spec } = test();
    const parent = await driver.create(spec('parent'));
    await runInside(parent, 'echo one > /root/state; rm /etc/group; mv /home /house; chmod 700 /var');
    const { upperDir } = await parent.stop();
    await mkdir(join(dataDir, 'sealing'), { recursive: true });
    const layers = await createLayerStore({ dataDir: join(dataDir, 'sealing'), budgetBytes: 1e12 });
    await layers.seal('sealed', upperDir, []);
    await parent.destroy();
    const stack = [...layers.directories(['sealed']), imageDir];
    const forks = await Promise.all(['left', 'right'].map((name) => driver.create(spec(name, { layers: stack }))));
    for (const fork of forks) {
      const { stdout } = await runInside(
        fork,
        'cat /root/state; ls -d /etc/group /home /house; stat -c %a /var; hostname > /root/state',
      );
      expect(stdout).toBe('one\n/house\n700\n');
    }
    expect(
      (await Promise.all(forks.map((fork) => runInside(fork, 'cat /root/state')))).map(({ stdout }) => stdout),
    ).toEqual(['left\n', 'right\n']);
    await Promise.all(forks.map((fork) => fork.destroy()));
    const late = await driver.create(spec('late', { layers: stack }));
    expect((await runInside(late, 'cat /root/state')).stdout).toBe('one\n');
    await late.destroy();
  });
}

async function* pieces(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 70_000) yield bytes.subarray(at, at + 70_000);
}

async function all(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  for await (const piece of stream) found.push(piece);
  return found;
}

async function textOf(process: GuestProcess): Promise<string> {
  const found: Uint8Array[] = [];
  for await (const { bytes } of process.output()) found.push(bytes);
  return Buffer.concat(found).toString();
}
