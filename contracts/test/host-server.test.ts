import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { type HostAddress, readHostAddress } from '../host-address.ts';
import type { HostApi } from '../host-api.ts';
import { connectHost } from '../host-client.ts';
import { serveHostApi } from '../host-server.ts';

const token = 'a secret of at least 32 characters';
const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

const host = {
  heartbeat: async () => ({ hostId: 'one', leases: [] }),
  async *watch() {
    yield { kind: 'output', leaseId: 'a', fence: 1, seq: 1, atMs: 1, stream: 'stdout', bytes: Buffer.from('text') };
  },
} as unknown as HostApi;

async function serve(address: HostAddress): Promise<void> {
  const server = await serveHostApi(host, address);
  cleanups.push(() => server.close());
}

function connect(address: HostAddress) {
  const remote = connectHost(address);
  cleanups.push(() => remote.close());
  return remote;
}

async function socketPath(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
  cleanups.push(() => rm(dir, { recursive: true }));
  return join(dir, 'host.sock');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

test('a host answers on a unix socket and on a port', async () => {
  const path = await socketPath();
  const port = await freePort();
  for (const address of [readHostAddress(path, null), readHostAddress(`127.0.0.1:${port}`, token)]) {
    await serve(address);
    const remote = connect(address);
    expect(await remote.heartbeat()).toEqual({ hostId: 'one', leases: [] });
    for await (const message of remote.watch(new AbortController().signal)) {
      expect(message).toMatchObject({ kind: 'output', bytes: Buffer.from('text') });
    }
  }
});

test('a port answers nobody without its secret', async () => {
  const port = await freePort();
  await serve(readHostAddress(`127.0.0.1:${port}`, token));
  await expect(connect(readHostAddress(`127.0.0.1:${port}`, `${token}?`)).heartbeat()).rejects.toThrow();
  const plain = await fetch(`http://127.0.0.1:${port}/heartbeat`, { method: 'POST' }).then(
    () => 'answered',
    () => 'refused',
  );
  expect(plain).toBe('refused');
  expect(await connect(readHostAddress(`127.0.0.1:${port}`, token)).heartbeat()).toMatchObject({ hostId: 'one' });
});

test('an address on a network needs a long secret', () => {
  for (const bad of [null, 'short']) expect(() => readHostAddress('10.0.0.1:4711', bad)).toThrow('CAISSON_HOST_TOKEN');
  expect(readHostAddress('[fd00::1]:4711', token)).toMatchObject({ address: 'fd00::1', port: 4711 });
  expect(readHostAddress('./dir:1/host.sock', null)).toEqual({ kind: 'socket', path: './dir:1/host.sock' });
});

test('a call to a server that takes connections and says nothing ends', async () => {
  const path = await socketPath();
  const silent = createServer(() => {}).listen(path);
  await once(silent, 'listening');
  cleanups.push(() => void silent.close());
  await expect(connect({ kind: 'socket', path }).heartbeat()).rejects.toThrow();
});
