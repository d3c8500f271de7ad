import { once } from 'node:events';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { json } from 'node:stream/consumers';
import type { HostApi, RunMessage } from '@caisson/contracts/host-api';
import { encodeRecord } from '@caisson/contracts/record-codec';

/** Answers a host of the tests on a unix socket, for control planes in processes of their own. */
export async function serveHost(host: HostApi, socketPath: string): Promise<{ close(): Promise<void> }> {
  const server = createServer();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', () => session.destroy());
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    answer(host, stream, String(headers[':path']).slice(1)).catch((error) => {
      if (stream.destroyed || stream.headersSent) return;
      stream.respond({ ':status': 500 });
      stream.end(JSON.stringify({ code: 'internal_error', message: String(error) }));
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return {
    async close() {
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(host: HostApi, stream: ServerHttp2Stream, name: string): Promise<void> {
  if (name === 'watch') return sendMessages(host, stream);
  let value: unknown;
  if (name.startsWith('blobs/')) value = await host.putBlob(name.slice('blobs/'.length), stream);
  else {
    const call = host[name as 'describe'] as (...args: unknown[]) => Promise<unknown>;
    value = await call(...((await json(stream)) as unknown[]));
  }
  stream.respond({ ':status': 200 });
  stream.end(JSON.stringify({ value: value ?? null }));
}

async function sendMessages(host: HostApi, stream: ServerHttp2Stream): Promise<void> {
  const gone = new AbortController();
  stream.on('close', () => gone.abort());
  stream.respond({ ':status': 200 });
  for await (const message of host.watch(gone.signal)) {
    if (gone.signal.aborted) return;
    if (!stream.write(encode(message))) await Promise.race([once(stream, 'drain'), once(stream, 'close')]);
  }
  stream.end();
}

function encode(message: RunMessage): Uint8Array {
  if (message.kind !== 'output') return encodeRecord(message, new Uint8Array(0));
  const { bytes, ...header } = message;
  return encodeRecord(header, bytes);
}
