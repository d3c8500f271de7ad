import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { connectGuest } from '../guest-channel.ts';
import type { Machine } from '../machine-driver.ts';
import { readHostResolvers } from '../network-resolvers.ts';
import { debianMirror } from './debian-mirror.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { openMicrovmTestDriver } from './microvm-test-driver.ts';
import { runInside } from './test-driver.ts';
import { microvmProblem } from './test-kit.ts';

const problem = await microvmProblem();
/** An address outside that is there to be asked. */
const mirror = await debianMirror();
if (mirror === null)
  console.warn('skipped: traffic to the internet, since no Debian archive over HTTP has an address here');
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

describe.skipIf(problem !== null)('a micro-virtual machine', () => {
  let test: DriverUnderTest;
  beforeAll(async () => {
    test = await openMicrovmTestDriver();
  });
  afterAll(() => test.end());

  it('outlives its host, and the next one goes on where it was', async () => {
    await startAndKillHost(test);
    expect(await test.driver.list()).toEqual(['orphan']);
    const machine = await test.driver.adopt('orphan');
    if (machine === null) throw new Error('it was not adopted');
    const process = await machine.guest.attach(7, 0);
    const lines: string[] = [];
    for await (const { bytes, endOffset } of process?.output() ?? []) {
      lines.push(...Buffer.from(bytes).toString().trim().split('\n'));
      process?.acknowledge(endOffset);
      if (lines.length > 40) break;
    }
    expect(lines).toEqual(lines.map((_, index) => String(index + 1)));
    // Its network is the one it had; the host's own name servers are known in it.
    const { addresses } = await readHostResolvers();
    const said = await runInside(machine, 'cat /etc/resolv.conf; nc -w 5 192.0.2.2 1');
    expect(said.stdout).toBe(addresses.map((address) => `nameserver ${address}\n`).join(''));
    expect(said.stderr).toMatch(/refused/);
    await machine.destroy();
    expect(await test.driver.list()).toEqual([]);
  });

  it.runIf(mirror !== null)('with a way out resolves names and reaches the internet', async () => {
    const { hostname, port, pathname } = mirror ?? new URL('http://unreachable/');
    const machine = await test.driver.create(test.spec('online', { egress: 'internet' }));
    const request = `printf 'HEAD ${pathname} HTTP/1.0\\r\\nHost: ${hostname}\\r\\n\\r\\n' | nc -w 20 ${hostname} ${port || 80}`;
    const { stdout, stderr } = await runInside(machine, request, { timeoutMs: 60_000 });
    expect({ stdout, stderr }).toMatchObject({ stdout: expect.stringMatching(/^HTTP\/1/) });
    await machine.destroy();
  });

  it('runs behind walls that hold QEMU as well, and its death is told with the cause', async () => {
    const machine = await test.driver.create(test.spec('walled'));
    const pid = await qemuPid(test, 'walled');
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1];
    const ids = field('Uid')?.split('\t') ?? [];
    expect(new Set(ids).size).toBe(1);
    expect(Number(ids[0])).toBeGreaterThanOrEqual(1_000_000_000);
    expect([field('CapEff'), field('CapBnd')]).toEqual(['0000000000000000', '0000000000000000']);
    expect([field('NoNewPrivs'), field('Seccomp'), field('Groups')?.trim()]).toEqual(['1', '2', '']);
    for (const namespace of ['net', 'mnt', 'ipc', 'uts'])
      expect(await readlink(`/proc/${pid}/ns/${namespace}`)).not.toBe(await readlink(`/proc/self/ns/${namespace}`));
    expect((await readdir(`/proc/${pid}/root`)).toSorted()).not.toContain('home');

    process.kill(pid, 'SIGKILL');
    expect(await machine.died).toMatchObject({
      outOfMemory: false,
      detail: expect.stringContaining('killed by SIGKILL'),
    });
    await expect(machine.guest.ping()).rejects.toMatchObject({ code: 'guest_lost' });
    await expect(test.driver.remains('walled').stop()).rejects.toMatchObject({ code: 'snapshot_failed' });
    await machine.destroy();
    expect(await test.driver.list()).toEqual([]);
  });

  it('is taken over by one host after another while output flows', async () => {
    const machine = await test.driver.create(test.spec('passed-on'));
    const flood = 'while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done';
    await machine.guest.exec({ argv: ['/bin/sh', '-c', flood], env: {}, cwd: '/', processId: 7 });
    machine.guest.close();
    const { installationId } = JSON.parse(await readFile(join(test.dataDir, 'installation.json'), 'utf8'));
    const { vesselId } = await readState(test, 'passed-on');
    // News of a host's end and the next one's greeting overtake one another in the guest; each round is another try.
    for (let round = 0; round < 20; round++) {
      const guest = await connectGuest(`/run/caisson/${installationId}/${vesselId}/agent.sock`, { isPort: true });
      const process = await guest.attach(7, 0);
      let seenBytes = 0;
      for await (const { bytes } of process?.output() ?? []) {
        seenBytes += bytes.length;
        if (seenBytes > 100_000) break;
      }
      expect(seenBytes).toBeGreaterThan(100_000);
      guest.close();
    }
    await machine.destroy();
  });

  it('whose kernel panics is dead, and its last words are told', async () => {
    const machine = await test.driver.create(test.spec('panics'));
    expect(await crash(machine)).toMatch(/its kernel shut down; its console: .*Kernel panic/);
    await machine.destroy();
  });
});

async function startAndKillHost(test: DriverUnderTest): Promise<void> {
  const childPath = join(import.meta.dirname, 'memory-host-child.ts');
  const words = ['--data-dir', test.dataDir, '--image', test.imageDir];
  const child = spawn(process.execPath, [childPath, ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = await once(child.stdout, 'data');
  expect(String(said)).toBe('ready\n');
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

async function qemuPid(test: DriverUnderTest, capsuleId: string): Promise<number> {
  return (await readState(test, capsuleId)).process.pid;
}

async function readState({ dataDir }: DriverUnderTest, capsuleId: string) {
  return JSON.parse(await readFile(join(dataDir, 'capsules', capsuleId, 'state.json'), 'utf8'));
}

async function crash(machine: Machine): Promise<string> {
  await runInside(machine, 'echo c > /proc/sysrq-trigger').catch(() => {});
  return (await machine.died).detail;
}
