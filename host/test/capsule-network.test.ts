import { execFile } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Machine } from '../machine-driver.ts';
import { debianMirror } from './debian-mirror.ts';
import { type HostServer, openHostServer, openPrivateNetwork, type PrivateNetwork } from './private-network.ts';
import { openTestDriver, runInside, type TestDriver } from './test-driver.ts';

const run = promisify(execFile);
/** Where this machine gets Debian from: an address outside that is there to be asked. */
const mirror = await debianMirror();
if (mirror === null)
  console.warn('skipped: traffic to the internet, since no Debian archive over HTTP has an address here');

describe('the network of a capsule', () => {
  let test: TestDriver;
  let hostServer: HostServer;
  let network: PrivateNetwork;
  let machine: Machine;
  let neighbour: Machine;
  let neighbourAddress: string;

  beforeAll(async () => {
    [hostServer, network] = await Promise.all([openHostServer(), openPrivateNetwork()]);
    test = await openTestDriver();
    machine = await test.driver.create(test.spec('one', { egress: 'internet' }));
    neighbour = await test.driver.create(test.spec('two', { egress: 'internet' }));
    neighbourAddress = await addressOf(neighbour);
    await runInside(neighbour, 'nc -ll -p 80 -e /bin/echo secret >/dev/null 2>&1 </dev/null &');
  });
  afterAll(async () => {
    await test.end();
    await Promise.all([hostServer.end(), network.end()]);
  });

  it('has one address, a default route and loopback', async () => {
    const { stdout } = await runInside(
      machine,
      'ip -4 addr show eth0; ip route; nc -ll -p 81 -e /bin/echo self & sleep 0.1; nc 127.0.0.1 81',
    );
    expect(stdout).toMatch(/inet 10\.[\d.]+\/30/);
    expect(stdout).toMatch(/default via 10\./);
    expect(stdout).toMatch(/self/);
  });

  it('is reached by the host, on a port below 1024 too', async () => {
    expect(await greetingOf(neighbourAddress, 80)).toBe('secret\n');
  });

  it.runIf(mirror !== null)('resolves names and reaches the internet', async () => {
    const { hostname, port, pathname } = mirror ?? new URL('http://unreachable/');
    const { stdout: answer } = await runInside(machine, `nslookup -type=a ${hostname}`);
    const address = /^Address: ([\d.]+)$/m.exec(answer)?.[1];
    const known = await lookup(hostname, { family: 4, all: true });
    expect(known.map((each) => each.address)).toContain(address);
    const request = `HEAD ${pathname}/ HTTP/1.1\\r\\nHost: ${hostname}\\r\\nConnection: close\\r\\n\\r\\n`;
    // A server may take the end of input for the end of interest.
    const { stdout } = await runInside(machine, `(printf '${request}'; sleep 1) | nc -w 5 ${address} ${port || 80}`);
    expect(stdout).toMatch(/^HTTP\/1.* 200/);
  });

  it('is refused by the host on every address it has', async () => {
    const gateway = await gatewayOf(machine);
    // Links of other installations come and go at any moment.
    const lasting = Object.entries(networkInterfaces()).filter(([name]) => !/^cs[0-9a-f]{6}n/.test(name));
    const own = lasting.flatMap(([, list]) => list?.filter(({ family }) => family === 'IPv4') ?? []);
    const addresses = [gateway, network.hostAddress, ...own.map(({ address }) => address)];
    for (const address of addresses.filter((address) => !address.startsWith('127.'))) {
      expect(await greetingOf(address, hostServer.port)).toBe('secret\n');
      await expectRefused(machine, address, hostServer.port);
    }
    await expectRefused(machine, '127.0.0.1', hostServer.port);
  });

  it('is refused by its neighbour', async () => {
    await expectRefused(machine, neighbourAddress, 80);
  });

  it('is refused by a private network the host can reach', async () => {
    await expect.poll(() => greetingOf(network.serverAddress, network.serverPort).catch(() => '')).toBe('secret\n');
    await expectRefused(machine, network.serverAddress, network.serverPort);
  });

  it.each([
    ['the metadata service', '169.254.169.254', 80],
    ['10/8', '10.1.2.3', 80],
    ['172.16/12', '172.16.0.1', 443],
    ['192.168/16', '192.168.0.1', 22],
    ['the carrier-grade range', '100.64.0.1', 80],
    ['multicast', '224.0.0.1', 80],
  ])('is refused %s', async (_, address, port) => {
    await expectRefused(machine, address, port);
  });

  it('has no IPv6 beyond loopback', async () => {
    const { stdout } = await runInside(machine, 'ip -6 addr show eth0; ip -6 route show default');
    expect(stdout).toBe('');
  });

  it('cannot be entered from a private network', async () => {
    const route = [`${neighbourAddress}/32`, 'via', network.hostAddress];
    const namespace = `caissontest${process.pid % 65_536}`;
    await run('ip', ['-n', namespace, 'route', 'add', ...route]);
    const enter = ['netns', 'exec', namespace, '/bin/busybox', 'nc', '-w', '1', neighbourAddress, '80'];
    await expect(run('ip', enter)).rejects.toThrow();
  });

  it('drops packets with another source than its own address', async () => {
    const { namespace } = await slotOfCapsule(test, 'one');
    const inNamespace = (...args: readonly string[]) => run('ip', ['-n', namespace, ...args]);
    const knock = () =>
      run('ip', ['netns', 'exec', namespace, '/bin/busybox', 'nc', '-w', '1', neighbourAddress, '80']);
    await expect(knock()).rejects.toThrow(/refused/);
    await inNamespace('addr', 'add', '10.191.9.9/32', 'dev', 'eth0');
    const detour = ['via', await gatewayOf(machine), 'src', '10.191.9.9'];
    await inNamespace('route', 'add', neighbourAddress, 'dev', 'eth0', ...detour);
    await expect(knock()).rejects.toThrow(/timed out/);
    await inNamespace('route', 'del', neighbourAddress);
    await inNamespace('addr', 'del', '10.191.9.9/32', 'dev', 'eth0');
  });

  it('is nothing but loopback without egress', async () => {
    const offline = await test.driver.create(test.spec('offline'));
    const { stdout } = await runInside(offline, 'ip -o link | wc -l; nc -w 1 192.0.2.1 80 || echo unreachable');
    expect(stdout).toBe('1\nunreachable\n');
    await offline.destroy();
  });
});

describe('the allow list of capsules', () => {
  it('opens exactly the address and port it names, on the host and beyond', async () => {
    const [hostServer, network] = await Promise.all([openHostServer(), openPrivateNetwork()]);
    const allowedTargets = [
      `${network.serverAddress}/32:${network.serverPort}`,
      `${network.hostAddress}:${hostServer.port}`,
    ];
    const test = await openTestDriver({ allowedTargets });
    try {
      const machine = await test.driver.create(test.spec('one', { egress: 'internet' }));
      expect(await insideGreeting(machine, network.serverAddress, network.serverPort)).toBe('secret\n');
      expect(await insideGreeting(machine, network.hostAddress, hostServer.port)).toBe('secret\n');
      await expectRefused(machine, network.serverAddress, network.serverPort + 1);
      await expectRefused(machine, network.hostAddress, hostServer.port === 22 ? 23 : 22);
    } finally {
      await test.end();
      await Promise.all([hostServer.end(), network.end()]);
    }
  });
});

describe('network namespaces', () => {
  it('serve again once they are clean', async () => {
    const test = await openTestDriver({ networkPoolSize: 1 });
    const use = async (script: string) => {
      await test.driver.networkReady();
      const machine = await test.driver.create(test.spec('user', { egress: 'internet' }));
      await runInside(machine, script);
      const address = await addressOf(machine);
      await machine.destroy();
      return address;
    };
    try {
      // While one is in use the pool makes another; both are seen before the first comes round again.
      const addresses = [await use('true'), await use('true'), await use('true')];
      expect(new Set(addresses).size).toBeLessThan(3);
    } finally {
      await test.end();
    }
  });

  it('are given up when a connection still lingers in them', async () => {
    const test = await openTestDriver({ networkPoolSize: 1 });
    try {
      const machine = await test.driver.create(test.spec('lingering', { egress: 'internet' }));
      const { namespace } = await slotOfCapsule(test, 'lingering');
      const script = 'nc -ll -p 81 -e /bin/echo hi & sleep 0.1; nc 127.0.0.1 81; cat /proc/net/sockstat';
      expect((await runInside(machine, script)).stdout).toMatch(/^hi\n[\s\S]*tw 1/);
      await machine.destroy();
      await test.driver.networkReady();
      const { stdout: namespaces } = await run('ip', ['netns', 'list']);
      expect(namespaces.split('\n').map((line) => line.split(' ')[0])).not.toContain(namespace);
    } finally {
      await test.end();
    }
  });

  it('of two installations side by side are apart', async () => {
    const [one, two] = await Promise.all([openTestDriver(), openTestDriver()]);
    try {
      const first = await one.driver.create(one.spec('same', { egress: 'internet' }));
      const second = await two.driver.create(two.spec('same', { egress: 'internet' }));
      const address = await addressOf(first);
      await runInside(first, 'nc -ll -p 80 -e /bin/echo secret >/dev/null 2>&1 </dev/null &');
      await expectRefused(second, address, 80);
      await one.driver.destroy('same');
      expect((await runInside(second, 'echo alive')).stdout).toBe('alive\n');
    } finally {
      await Promise.all([one.end(), two.end()]);
    }
  });
});

async function addressOf(machine: Machine): Promise<string> {
  const { stdout } = await runInside(machine, "ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'");
  return stdout.trim();
}

async function slotOfCapsule(test: TestDriver, capsuleId: string): Promise<{ readonly namespace: string }> {
  const { networkSlot } = JSON.parse(await readFile(`${test.dataDir}/capsules/${capsuleId}/state.json`, 'utf8'));
  const { installationId } = JSON.parse(await readFile(`${test.dataDir}/installation.json`, 'utf8'));
  return { namespace: `caisson-${installationId}-${networkSlot}` };
}

async function gatewayOf(machine: Machine): Promise<string> {
  return (await runInside(machine, "ip route | awk '/default/ {print $3}'")).stdout.trim();
}

async function insideGreeting(machine: Machine, address: string, port: number): Promise<string> {
  return (await runInside(machine, `nc -w 3 ${address} ${port} </dev/null`)).stdout;
}

/** Within a second: a refusal that hangs is half a denial of service. */
async function expectRefused(machine: Machine, address: string, port: number): Promise<void> {
  const startedAt = performance.now();
  const { exitCode, stdout, stderr } = await runInside(machine, `nc -w 3 ${address} ${port} </dev/null`);
  expect({ address, exitCode, stdout }).toEqual({ address, exitCode: 1, stdout: '' });
  expect(stderr).toMatch(/refused|unreachable|No route/i);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
}

function greetingOf(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host, port, timeout: 2_000 });
    socket.on('data', (bytes) => {
      resolve(bytes.toString());
      socket.destroy();
    });
    socket.on('error', reject);
    socket.on('timeout', () => reject(new Error('no answer')));
  });
}
