import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { AppError } from './app-error.ts';
import { isErrorCode } from './error-table.ts';
import { connectTo, type HostAddress } from './host-address.ts';
import type { HostApi, RunMessage } from './host-api.ts';
import { encodeLayerHeader, endTrailer, layerHeader } from './host-layer-header.ts';
import { watchForSilence } from './host-silence.ts';
import { decodeRecords } from './record-codec.ts';

const callTimeoutMs = 30_000;

/** A `HostApi` answered by a host in another process, over HTTP/2. Connects at the first call and again after a loss. */
export interface RemoteHost extends HostApi {
  close(): void;
}

export function connectHost(address: HostAddress): RemoteHost {
  let session: ClientHttp2Session | null = null;

  function open(): ClientHttp2Session {
    if (session !== null && !session.closed && !session.destroyed) return session;
    const socket = connectTo(address);
    session = connect('http://host', { createConnection: () => socket });
    session.on('error', () => {});
    watchForSilence(session, socket, (error) => socket.destroy(error));
    session.unref();
    return session;
  }

  function request(method: string, path: string, headers: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
    return open().request({ ':method': method, ':path': path, ...headers }, { endStream: method === 'GET' });
  }

  async function upload(stream: ClientHttp2Stream, bytes: AsyncIterable<Uint8Array>): Promise<void> {
    // What fails to come ends the stream, and an answer that comes early lets go of the rest.
    pipeline(bytes, stream).catch(() => {});
    await readReply(stream).finally(() => stream.destroy());
  }

  async function call<T>(name: string, ...args: unknown[]): Promise<T> {
    const stream = request('POST', `/${name}`);
    stream.end(JSON.stringify(args));
    return (await readReply(stream)) as T;
  }

  return {
    describe: () => call('describe'),
    heartbeat: () => call('heartbeat'),
    hasBlob: (digest) => call('hasBlob', digest),
    putBlob: (digest, bytes) => upload(request('PUT', `/blobs/${digest}`), bytes),
    startRun: (assignment) => call('startRun', assignment),
    cancelRun: (lease, reason) => call('cancelRun', lease, reason),
    acknowledge: (acks) => call('acknowledge', acks),
    releaseLayer: (layerId) => call('releaseLayer', layerId),
    describeLayer: (layerId) => call('describeLayer', layerId),
    hasLayer: (copyId) => call('hasLayer', copyId),
    readLayer: (copyId) => readLayer(request('GET', `/layers/${copyId}`)),
    putLayer: (layer, bytes) => upload(request('PUT', '/layers', { [layerHeader]: encodeLayerHeader(layer) }), bytes),
    watch: (signal) => watch(request('GET', '/watch'), signal),
    close() {
      session?.destroy();
    },
  };
}

/** 0 when the stream ends without an answer. */
function statusOf(stream: ClientHttp2Stream): Promise<number> {
  stream.setTimeout(callTimeoutMs, () => stream.destroy(new Error('the host did not answer in time')));
  return new Promise<number>((resolve) => {
    stream.once('response', (headers) => resolve(Number(headers[':status'])));
    stream.once('close', () => resolve(0));
  });
}

async function* readLayer(stream: ClientHttp2Stream): AsyncIterable<Uint8Array> {
  const status = statusOf(stream);
  stream.on('error', () => {});
  let isWhole = false;
  stream.once('trailers', (trailers) => {
    isWhole = endTrailer in trailers;
  });
  if ((await status) !== 200) throw refusalOf(await readBody(stream));
  yield* stream;
  if (!isWhole) throw new Error('a layer broke off on its way');
}

async function readReply(stream: ClientHttp2Stream): Promise<unknown> {
  const status = statusOf(stream);
  const body = await readBody(stream);
  if ((await status) === 200) return body.value;
  throw refusalOf(body);
}

interface Reply {
  readonly value?: unknown;
  readonly code?: unknown;
  readonly message?: unknown;
}

async function readBody(stream: ClientHttp2Stream): Promise<Reply> {
  return JSON.parse((await text(stream)) || '{}');
}

function refusalOf(body: Reply): AppError {
  return new AppError(isErrorCode(body.code) ? body.code : 'internal_error', String(body.message));
}

async function* watch(stream: ClientHttp2Stream, signal: AbortSignal): AsyncIterable<RunMessage> {
  const end = () => stream.destroy();
  signal.addEventListener('abort', end, { once: true });
  let rest: Uint8Array = new Uint8Array(0);
  try {
    for await (const part of stream) {
      const bytes = rest.length === 0 ? part : Buffer.concat([rest, part]);
      const { records, used } = decodeRecords(bytes);
      rest = bytes.subarray(used);
      for (const { header, payload } of records) yield withBytes(header as RunMessage, payload);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', end);
  }
}

function withBytes(message: RunMessage, bytes: Uint8Array): RunMessage {
  return message.kind === 'output' ? { ...message, bytes } : message;
}
