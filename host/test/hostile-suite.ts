import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Machine } from '../machine-driver.ts';
import { deviceOwners } from './device-owners.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { type EscapeTargets, escapeCases } from './hostile-cases.ts';
import { openPublicServer, type PublicServer } from './hostile-network.ts';
import { buildHostileProgram } from './hostile-program.ts';
import { type HostServer, openHostServer, openPrivateNetwork, type PrivateNetwork } from './private-network.ts';
import { runInside } from './test-driver.ts';

interface SuiteOptions {
  readonly name: string;
  readonly open: () => Promise<DriverUnderTest>;
  /** Whether host and capsules share a kernel; without, its own walls are the capsule's own affair. */
  readonly sharesKernel: boolean;
  /** Words of a refusal besides those of a case, where a kernel says it otherwise: for any attack, and for single ones. */
  readonly alsoRefusal?: RegExp;
  readonly refusals?: Readonly<Record<string, RegExp>>;
  /** Attacks that work and reach nothing of the host, because what they change is the capsule's own there. */
  readonly harmless?: readonly string[];
  /**
   * Has something greet with `secret` on port 80 where packets for this capsule arrive, and returns the address. Default: a server in
   * the capsule itself.
   */
  readonly serveAt?: (test: DriverUnderTest, neighbour: Machine) => Promise<Neighbour>;
}

export interface Neighbour {
  readonly address: string;
  end(): Promise<void>;
}

/** Runs every attack of `escapeCases` in one capsule of a driver; each has to fail with its refusal, and the host stays as it was. */
export function escapeSuite(options: SuiteOptions): void {
  const { name, open, sharesKernel, alsoRefusal, refusals = {}, harmless = [], serveAt = serveInside } = options;
  const wanted = escapeCases.filter(({ everyDriver }) => everyDriver || sharesKernel);
  const cases = wanted.filter(({ attack }) => !harmless.includes(attack));
  const skipped = escapeCases.length - wanted.length;
  if (skipped > 0)
    console.warn(`skipped: ${skipped} attacks on a shared kernel, since ${name} gives each capsule its own`);
  if (harmless.length > 0) console.warn(`skipped: attacks that stay inside with ${name}: ${harmless.join('; ')}`);

  describe(`a capsule of the ${name} driver cannot`, () => {
    let test: DriverUnderTest;
    let world: World;
    let machine: Machine;
    let before: Readonly<Record<string, string>>;

    beforeAll(async () => {
      before = await fingerprint();
      test = await open();
      await buildHostileProgram(join(test.imageDir, 'bin/hostile-probe'));
      const tools = [{ from: test.imageDir, to: '/opt/tools' }];
      machine = await test.driver.create(test.spec('attacker', { egress: 'internet', readOnlyBinds: tools }));
      world = await openWorld(test, serveAt);
    });
    afterAll(async () => {
      await world.end();
      await test.end();
    });

    it.each(cases)('$attack', async ({ attack: wish, script, refusal }) => {
      const { exitCode, stdout, stderr } = await attack(machine, script, world.targets);
      const said = `${stdout}${stderr}`;
      expect({ exitCode, said }).not.toMatchObject({ exitCode: 0 });
      expect(said).not.toMatch(/OPEN|secret|unknown attack|applet not found/);
      if (!alsoRefusal?.test(said)) expect(said).toMatch(refusals[wish] ?? refusal);
    });

    it('change the host by any of this, nor stop its own agent', async () => {
      expect(await fingerprint()).toEqual(before);
      expect(world.sleeper.exitCode).toBeNull();
      expect((await runInside(machine, 'echo alive')).stdout).toBe('alive\n');
    });

    it('be refused what it may have, or the refusals would mean nothing', async () => {
      const { targets } = world;
      expect((await attack(machine, 'nc -w 3 $PUBLIC 7001 </dev/null', targets)).stdout).toBe('secret\n');
      const [address, port] = targets.PRIVATE.split(' ');
      const open = [
        [targets.HOST_ADDRESS, targets.HOST_PORT],
        ['127.0.0.1', targets.HOST_PORT],
        [targets.NEIGHBOUR, '80'],
        [address, port],
        [targets.PUBLIC, '53'],
        [targets.PUBLIC, '853'],
      ];
      for (const [host, port] of open) await expect.poll(() => greetingOf(host, Number(port))).toBe('secret\n');
      expect(await readFile(targets.SECRET, 'utf8')).toBe('secret\n');
    });

    it("fill the host's table of connections", async () => {
      const connections = async () => Number(await readFile('/proc/sys/net/netfilter/nf_conntrack_count', 'utf8'));
      const countBefore = await connections();
      const { stdout } = await attack(machine, '/bin/hostile-probe flows $PUBLIC', {
        ...world.targets,
        timeoutMs: 60_000,
      });
      expect(Number.parseInt(stdout, 10)).toBeGreaterThan(4_000);
      expect((await connections()) - countBefore).toBeLessThan(6_000);
      await expect.poll(() => greetingOf(world.targets.PUBLIC, 7001)).toBe('secret\n');
    });
  });
}

/** A hang is no refusal, so everything ends after some seconds. */
function attack(
  machine: Machine,
  script: string,
  { timeoutMs = 10_000, ...targets }: EscapeTargets & { timeoutMs?: number },
) {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...targets };
  return runInside(machine, script, { env, timeoutMs });
}

interface World {
  readonly targets: EscapeTargets;
  readonly sleeper: ChildProcess;
  end(): Promise<void>;
}

async function serveInside(_: DriverUnderTest, neighbour: Machine): Promise<Neighbour> {
  await runInside(neighbour, 'nc -ll -p 80 -e /bin/echo secret >/dev/null 2>&1 </dev/null &');
  const { stdout } = await runInside(neighbour, "ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'");
  return { address: stdout.trim(), end: async () => {} };
}

async function openWorld(test: DriverUnderTest, serveAt: typeof serveInside): Promise<World> {
  const secretPath = join(test.dataDir, 'secret');
  await writeFile(secretPath, 'secret\n');
  const [hostServer, network, publicServer]: [HostServer, PrivateNetwork, PublicServer] = await Promise.all([
    openHostServer(),
    openPrivateNetwork(),
    openPublicServer(),
  ]);
  const abstractName = `caisson-test-${process.pid}`;
  const abstractServer = await listenAbstract(abstractName);
  const sleeper = spawn('sleep', ['1000']);
  const machine = await test.driver.create(test.spec('neighbour', { egress: 'internet' }));
  const neighbour = await serveAt(test, machine);
  return {
    sleeper,
    targets: {
      SECRET: secretPath,
      HOST_PID: String(sleeper.pid),
      ABSTRACT: abstractName,
      HOST_PORT: String(hostServer.port),
      HOST_ADDRESS: network.hostAddress,
      NEIGHBOUR: neighbour.address,
      PRIVATE: `${network.serverAddress} ${network.serverPort}`,
      PUBLIC: publicServer.address,
    },
    async end() {
      const gone = once(sleeper, 'exit');
      sleeper.kill('SIGKILL');
      abstractServer.close();
      await Promise.all([gone, neighbour.end(), hostServer.end(), network.end(), publicServer.end()]);
    },
  };
}

async function listenAbstract(name: string): Promise<Server> {
  const server = createServer((socket) => socket.end('secret\n'));
  server.listen(`\0${name}`);
  await once(server, 'listening');
  return server;
}

/** What of the host a capsule could be after. */
async function fingerprint(): Promise<Readonly<Record<string, string>>> {
  const settings = ['kernel/core_pattern', 'kernel/panic', 'kernel/sysrq', 'kernel/ctrl-alt-del', 'kernel/domainname'];
  const texts = await Promise.all(settings.map((name) => readFile(`/proc/sys/${name}`, 'utf8').catch(() => '')));
  const isClockRight = Date.now() > Date.parse('2020-01-01');
  return {
    ...Object.fromEntries(settings.map((name, index) => [name, texts[index] ?? ''])),
    hostname: hostname(),
    ...(await deviceOwners()),
    resolvers: await readFile('/etc/resolv.conf', 'utf8').catch(() => ''),
    clock: String(isClockRight),
  };
}

function greetingOf(host: string | undefined, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, timeout: 1_000 });
    socket.on('data', (bytes) => {
      resolve(bytes.toString());
      socket.destroy();
    });
    socket.on('error', (error) => resolve(error.message));
    socket.on('timeout', () => resolve('no answer'));
  });
}
