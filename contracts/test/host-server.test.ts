import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { afterEach, expect, test } from 'vitest';
import { AppError } from '../app-error.ts';
import { type HostAddress, readHostAddress } from '../host-address.ts';
import type { HostApi, LayerUpload } from '../host-api.ts';
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

async function* pieces(...texts: readonly string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

const layer: LayerUpload = {
  ...{ copyId: 'copy-1', kind: 'sealed', driver: 'container', below: ['copy-0'], digest: 'd', isForMemory: true },
};

async function served(calls: Partial<HostApi>): Promise<HostApi> {
  const path = await socketPath();
  const server = await serveHostApi(calls as HostApi, { kind: 'socket', path });
  cleanups.push(() => server.close());
  return connect({ kind: 'socket', path });
}

test('layers go over the wire in both directions', async () => {
  const taken: unknown[] = [];
  const host = await served({
    describeLayer: async (layerId) => (layerId === 'known' ? [layer] : null),
    hasLayer: async (copyId) => copyId === 'copy-1',
    readLayer: (copyId) => pieces('the bytes', ' of ', copyId),
    putLayer: async (upload, bytes) => void taken.push(upload, await textOf(bytes)),
  });
  expect(await host.describeLayer('known')).toEqual([layer]);
  expect(await host.describeLayer('other')).toBe(null);
  expect([await host.hasLayer('copy-1'), await host.hasLayer('copy-2')]).toEqual([true, false]);
  expect(await textOf(host.readLayer('copy-1'))).toBe('the bytes of copy-1');
  await host.putLayer(layer, pieces('a', 'b'));
  expect(taken).toEqual([layer, 'ab']);
});

test('a layer that is refused is refused with its code, one that breaks off is not taken for whole', async () => {
  const host = await served({
    async *readLayer(copyId) {
      if (copyId === 'none') throw new AppError('snapshot_missing', 'not here');
      yield Buffer.from('the first half');
      throw new Error('the disk died');
    },
    putLayer: () => Promise.reject(new AppError('snapshot_failed', 'another processor')),
  });
  await expect(textOf(host.readLayer('none'))).rejects.toMatchObject({ code: 'snapshot_missing' });
  await expect(textOf(host.readLayer('half'))).rejects.toThrow();
  const isOver = Promise.withResolvers<void>();
  async function* endless(): AsyncIterable<Uint8Array> {
    try {
      for (;;) yield Buffer.alloc(2 ** 16);
    } finally {
      isOver.resolve();
    }
  }
  await expect(host.putLayer(layer, endless())).rejects.toMatchObject({ code: 'snapshot_failed' });
  await isOver.promise;
  async function* torn(): AsyncIterable<Uint8Array> {
    yield Buffer.from('the first half');
    throw new Error('no more');
  }
  await expect(host.putLayer(layer, torn())).rejects.toThrow();
});

test('a layer of a host that dies on the way is not taken for whole', async () => {
  const path = await socketPath();
  const calls: Partial<HostApi> = {
    async *readLayer() {
      yield Buffer.alloc(2 ** 20);
      await new Promise(() => {});
    },
  };
  const server = await serveHostApi(calls as HostApi, { kind: 'socket', path });
  const bytes = connect({ kind: 'socket', path }).readLayer('copy-1')[Symbol.asyncIterator]();
  await bytes.next();
  await server.close();
  const rest = async () => {
    while (!(await bytes.next()).done);
  };
  await expect(rest()).rejects.toThrow();
});

test('a body that is refused when half of it is there is refused with its code', async () => {
  const host = await served({
    async putLayer(_layer, bytes) {
      for await (const _ of bytes) throw new AppError('disk_full', 'there is no room');
    },
  });
  async function* endless(): AsyncIterable<Uint8Array> {
    for (;;) yield Buffer.alloc(2 ** 16);
  }
  await expect(host.putLayer(layer, endless())).rejects.toMatchObject({ code: 'disk_full' });
});

test('who goes before the first byte of a layer stops whoever packs it', async () => {
  const [isAsked, isOver] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const first = Promise.withResolvers<void>();
  const path = await socketPath();
  const calls: Partial<HostApi> = {
    async *readLayer() {
      try {
        isAsked.resolve();
        await first.promise;
        yield Buffer.alloc(1);
      } finally {
        isOver.resolve();
      }
    },
  };
  const server = await serveHostApi(calls as HostApi, { kind: 'socket', path });
  cleanups.push(() => server.close());
  const remote = connectHost({ kind: 'socket', path });
  const reading = remote.readLayer('copy-1')[Symbol.asyncIterator]().next();
  await isAsked.promise;
  remote.close();
  await reading.catch(() => {});
  first.resolve();
  await isOver.promise;
});

test('who stops reading a layer stops whoever packs it', async () => {
  const isOver = Promise.withResolvers<void>();
  const host = await served({
    async *readLayer() {
      try {
        for (;;) yield Buffer.alloc(2 ** 16);
      } finally {
        isOver.resolve();
      }
    },
  });
  for await (const _ of host.readLayer('copy-1')) break;
  await isOver.promise;
});
