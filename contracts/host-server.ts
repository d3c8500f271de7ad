import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import {
  createSecureServer,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf } from './app-error.ts';
import { type HostAddress, serverTls } from './host-address.ts';
import type { HostApi, RunMessage } from './host-api.ts';
import { decodeLayerHeader, endTrailer, layerHeader } from './host-layer-header.ts';
import { watchForSilence } from './host-silence.ts';
import { encodeRecord } from './record-codec.ts';

const maxBodyBytes = 16 * 2 ** 20;
const methodPattern =
  /^POST \/(describe|heartbeat|hasBlob|startRun|cancelRun|acknowledge|releaseLayer|describeLayer|hasLayer)$/;

/** Answers a `HostApi` over HTTP/2. See `docs/host-api.md`. */
export async function serveHostApi(host: HostApi, address: HostAddress): Promise<{ close(): Promise<void> }> {
  const server = address.kind === 'socket' ? createServer() : createSecureServer(serverTls(address.token));
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', () => session.destroy());
    watchForSilence(session, session.socket, (error) => session.destroy(error));
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => stream.close());
    answer(host, stream, headers).catch((error) => refuse(stream, error));
  });
  await listen(server, address);
  return {
    async close() {
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function listen(server: Http2Server, address: HostAddress): Promise<void> {
  if (address.kind === 'network') {
    server.listen(address.port, address.address);
    await once(server, 'listening');
    return;
  }
  await rm(address.path, { force: true });
  const oldMask = process.umask(0o077);
  try {
    server.listen(address.path);
    await once(server, 'listening');
  } finally {
    process.umask(oldMask);
  }
}

async function answer(host: HostApi, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
  const route = `${headers[':method']} ${headers[':path']}`;
  const digest = /^PUT \/blobs\/([0-9a-f]{64})$/.exec(route)?.[1];
  if (digest !== undefined) {
    await host.putBlob(digest, bodyOf(stream));
    return reply(stream, null);
  }
  if (route === 'GET /watch') return streamMessages(host, stream);
  if (route === 'PUT /layers') {
    await host.putLayer(decodeLayerHeader(String(headers[layerHeader])), bodyOf(stream));
    return reply(stream, null);
  }
  const copyId = /^GET \/layers\/([\w.-]+)$/.exec(route)?.[1];
  if (copyId !== undefined) return streamLayer(host.readLayer(copyId), stream);
  const method = methodPattern.exec(route)?.[1];
  if (method === undefined) throw new Error(`no such call: ${route}`);
  const call = host[method as 'describe'] as (...args: unknown[]) => Promise<unknown>;
  reply(stream, await call.apply(host, await readArguments(stream)));
}

/** Whoever stops reading in the middle can still be answered. */
function bodyOf(stream: ServerHttp2Stream): AsyncIterable<Uint8Array> {
  return stream.iterator({ destroyOnReturn: false });
}

async function readArguments(stream: ServerHttp2Stream): Promise<unknown[]> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of stream) {
    size += part.length;
    if (size > maxBodyBytes) throw new Error('the call is too large');
    parts.push(part);
  }
  return JSON.parse(Buffer.concat(parts).toString('utf8'));
}

function reply(stream: ServerHttp2Stream, value: unknown): void {
  stream.respond({ ':status': 200, 'content-type': 'application/json' });
  stream.end(JSON.stringify({ value: value ?? null }));
}

function refuse(stream: ServerHttp2Stream, error: unknown): void {
  if (stream.destroyed || stream.headersSent) {
    stream.close();
    return;
  }
  const code = error instanceof Error && 'code' in error ? error.code : 'internal_error';
  stream.respond({ ':status': 500, 'content-type': 'application/json' });
  // What is still to come of a body nobody wants.
  stream.end(JSON.stringify({ code, message: messageOf(error) }), () => stream.close());
}

async function streamMessages(host: HostApi, stream: ServerHttp2Stream): Promise<void> {
  const gone = new AbortController();
  stream.on('close', () => gone.abort());
  stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' });
  for await (const message of host.watch(gone.signal)) {
    if (gone.signal.aborted) return;
    if (!stream.write(encodeMessage(message))) await Promise.race([once(stream, 'drain'), once(stream, 'close')]);
  }
  stream.end();
}

/** One that is not here is refused like any call; one that breaks off lacks the mark of its end. */
async function streamLayer(bytes: AsyncIterable<Uint8Array>, stream: ServerHttp2Stream): Promise<void> {
  const packed = Readable.from(bytes);
  const gone = new AbortController();
  stream.once('close', () => {
    gone.abort();
    packed.destroy();
  });
  await once(packed, 'readable', { signal: gone.signal });
  stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' }, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers({ [endTrailer]: 'yes' }));
  await pipeline(packed, stream);
}

function encodeMessage(message: RunMessage): Uint8Array {
  if (message.kind !== 'output') return encodeRecord(message, new Uint8Array(0));
  const { bytes, ...header } = message;
  return encodeRecord(header, bytes);
}
