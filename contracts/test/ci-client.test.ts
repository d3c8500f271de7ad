import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { chunkFrame, doneFrame, heartbeatFrame, historyFrame, type LogChunk } from '../ci/log-stream.ts';
import { createCiClient } from '../ci-client.ts';
import { type FollowJobLog, followJobLog } from '../follow-job-log.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that gives these answers in turn, the last one from then on. */
async function serve(...answers: Answer[]): Promise<{ baseUrl: string; requests: IncomingMessage[] }> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    answers[Math.min(requests.length, answers.length) - 1]?.(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

function stream(...frames: string[]): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(frames.join(''));
  };
}

/** Sends the frames, then breaks the connection. */
function broken(...frames: string[]): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(frames.join(''), () => response.destroy());
  };
}

function refuse(status: number): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end('{"code":"x","message":"x"}');
  };
}

function line(seq: number): LogChunk {
  return { seq, stream: 'stdout', content: `line ${seq}\n`, atMs: 1_750_000_000_000 + seq };
}

async function readAll(baseUrl: string, more: Partial<FollowJobLog> = {}): Promise<LogChunk[]> {
  const signal = new AbortController().signal;
  const chunks: LogChunk[] = [];
  for await (const chunk of followJobLog({ baseUrl, jobId: 'j/1', token: 't+1', signal, ...more })) chunks.push(chunk);
  return chunks;
}

test('a log is read to its end', async () => {
  const { baseUrl, requests } = await serve(
    stream(historyFrame([line(1), line(2)]), heartbeatFrame, chunkFrame(line(3)), doneFrame),
  );
  expect(await readAll(baseUrl)).toEqual([line(1), line(2), line(3)]);
  expect(requests[0]?.url).toBe('/v0/jobs/j%2F1/logs?token=t%2B1');
  expect(requests[0]?.headers['last-event-id']).toBeUndefined();
});

test('a broken log goes on where it ended, nothing twice', async () => {
  const { baseUrl, requests } = await serve(
    broken(historyFrame([line(1)]), chunkFrame(line(2))),
    refuse(503),
    broken(historyFrame([line(2), line(3)])),
    stream(historyFrame([]), chunkFrame(line(4)), doneFrame),
  );
  expect(await readAll(baseUrl)).toEqual([line(1), line(2), line(3), line(4)]);
  expect(requests.map((request) => request.headers['last-event-id'])).toEqual([undefined, '2', '2', '3']);
});

test('a reader may start in the middle', async () => {
  const { baseUrl, requests } = await serve(stream(historyFrame([line(8)]), doneFrame));
  expect(await readAll(baseUrl, { lastEventId: 7 })).toEqual([line(8)]);
  expect(requests[0]?.headers['last-event-id']).toBe('7');
});

test('a refused token ends the log with the code of the refusal', async () => {
  const { baseUrl } = await serve(refuse(401), refuse(403));
  await expect(readAll(baseUrl)).rejects.toMatchObject({ code: 'log_stream_unauthorized' });
  await expect(readAll(baseUrl)).rejects.toMatchObject({ code: 'log_stream_forbidden' });
});

test('an expired token is replaced where there is a way', async () => {
  const { baseUrl, requests } = await serve(refuse(401), stream(historyFrame([line(1)]), doneFrame));
  let minted = 0;
  const token = async () => `t${++minted}`;
  expect(await readAll(baseUrl, { token })).toEqual([line(1)]);
  expect(requests.map((request) => request.url?.split('=')[1])).toEqual(['t1', 't2']);
});

test('patience has an end', async () => {
  const { baseUrl } = await serve(refuse(502));
  await expect(readAll(baseUrl, { patienceMs: 1 })).rejects.toMatchObject({ code: 'service_unavailable' });
});

test('an abort ends a log that goes on, and its connection', async () => {
  const gone = Promise.withResolvers<void>();
  const { baseUrl } = await serve((_request, response) => {
    response.on('close', gone.resolve);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(historyFrame([line(1)]));
  });
  const abort = new AbortController();
  const seen: LogChunk[] = [];
  for await (const chunk of followJobLog({ baseUrl, jobId: 'j', token: 't', signal: abort.signal })) {
    seen.push(chunk);
    abort.abort();
  }
  expect(seen).toEqual([line(1)]);
  await gone.promise;
});

test('leaving the loop ends the connection', async () => {
  const gone = Promise.withResolvers<void>();
  const { baseUrl } = await serve((_request, response) => {
    response.on('close', gone.resolve);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(historyFrame([line(1), line(2)]));
  });
  const signal = new AbortController().signal;
  for await (const chunk of followJobLog({ baseUrl, jobId: 'j', token: 't', signal })) {
    expect(chunk).toEqual(line(1));
    break;
  }
  await gone.promise;
});

test('the client sends the token and tells data from refusals', async () => {
  const { baseUrl, requests } = await serve(
    (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end('{"uuid":"u","email":"e","name":null,"personal_org_slug":null}');
    },
    (_request, response) => {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end(
        '{"error":{"type":"not_found","code":"build_not_found","message":"m","doc_url":"d","request_id":"r"}}',
      );
    },
  );
  const client = createCiClient({ baseUrl, token: 'hm_x' });
  const user = await client.GET('/api/v0/user');
  expect(user.data?.email).toBe('e');
  expect(requests[0]?.headers.authorization).toBe('Bearer hm_x');
  const build = await client.GET('/api/v0/organizations/{org}/pipelines/{pipeline}/builds/{number}', {
    params: { path: { org: 'a b', pipeline: 'p', number: 7 } },
  });
  expect(build.error?.error.code).toBe('build_not_found');
  expect(requests[1]?.url).toBe('/api/v0/organizations/a%20b/pipelines/p/builds/7');
});
