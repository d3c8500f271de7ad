import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { notify } from '../engine/notifications.ts';
import { signBuildToken } from '../identity/build-token.ts';
import { type CiRig, ciRig } from './ci-rig.ts';
import { type EventReader, type ReadEvent, readEvents } from './event-reader.ts';
import { ir } from './ir.ts';

let rig: CiRig;
let pipeline: string;
let buildId: string;
let jobId: string;
let readers: EventReader[] = [];

beforeAll(async () => {
  rig = await ciRig({ settings: { corsOrigins: ['http://dashboard.test'] } });
  pipeline = await rig.pipeline();
});
afterAll(() => rig.close());
beforeEach(async () => {
  for (const reader of readers) reader.close();
  readers = [];
  const build = await rig.build(pipeline, ir({ a: ['true'] }));
  buildId = build.id;
  jobId = (await rig.db.selectFrom('jobs').select('id').where('build_id', '=', buildId).executeTakeFirstOrThrow()).id;
});

const hourFromNow = () => Math.floor(Date.now() / 1000) + 3600;
const tokenFor = (id: string, expiresAtS = hourFromNow()) =>
  signBuildToken(rig.secrets.logTokenSecret, { buildId: id, expiresAtS });
const path = (query = '') => `/v0/jobs/${jobId}/logs?token=${tokenFor(buildId)}${query}`;

async function open(query = '', headers: Record<string, string> = {}): Promise<EventReader> {
  const reader = await readEvents(rig.url + path(query), headers);
  readers.push(reader);
  return reader;
}

/** Stores output as a host's report would, numbered on from what is there. */
async function say(...chunks: (string | Buffer | { stream: 0 | 1 | 2; content: string | Buffer })[]): Promise<void> {
  const { last } = await rig.db
    .selectFrom('log_chunks')
    .select(({ fn }) => fn.max('seq').as('last'))
    .where('job_id', '=', jobId)
    .executeTakeFirstOrThrow();
  await rig.db
    .insertInto('log_chunks')
    .values(
      chunks.map((chunk, index) => {
        const isPlain = typeof chunk === 'string' || Buffer.isBuffer(chunk);
        const { stream, content } = isPlain ? { stream: 0 as const, content: chunk } : chunk;
        const at = new Date(1_750_000_000_123);
        return { job_id: jobId, seq: (last ?? 0) + index + 1, stream, content: Buffer.from(content as string), at };
      }),
    )
    .execute();
  await notify(rig.db, 'job', jobId);
}

async function end(status: 'passed' | 'failed' = 'passed'): Promise<void> {
  await rig.db.updateTable('jobs').set({ status, finished_at: new Date() }).where('id', '=', jobId).execute();
  await notify(rig.db, 'job', jobId);
}

const chunk = (seq: number, content: string, stream_kind = 0) => ({
  event: 'chunk',
  id: String(seq),
  data: { seq, stream_kind, content, ts: 1_750_000_000_123_000_000 },
});
const history = (...chunks: ReturnType<typeof chunk>[]) => ({
  event: 'history',
  id: null,
  data: { chunks: chunks.map(({ data }) => data) },
});
const chunksOf = (event: ReadEvent | undefined) =>
  (event?.data ?? { chunks: [] }) as { chunks: { seq: number; content: string }[] };
const done = { event: 'done', id: null, data: {} };

describe('a reader', () => {
  test('gets history, then each chunk, then done and the end', async () => {
    await say('one\n', { stream: 1, content: 'two\n' });
    const reader = await open();
    expect(reader.status).toBe(200);
    expect(reader.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(reader.headers.get('cache-control')).toBe('no-cache');
    expect(await reader.next()).toEqual(history(chunk(1, 'one\n'), chunk(2, 'two\n', 1)));
    await say('three', { stream: 2, content: 'four' });
    expect(await reader.next()).toEqual(chunk(3, 'three'));
    expect(await reader.next()).toEqual(chunk(4, 'four', 2));
    await say('five');
    await end();
    expect(await reader.rest()).toEqual([chunk(5, 'five'), done]);
  });

  test('of a job that is over gets everything and done at once', async () => {
    await say('a', 'b');
    await end('failed');
    const startedMs = performance.now();
    expect(await (await open()).rest()).toEqual([history(chunk(1, 'a'), chunk(2, 'b')), done]);
    expect(performance.now() - startedMs).toBeLessThan(1_500);
  });

  test('of a job without output gets an empty history', async () => {
    await end();
    expect(await (await open()).rest()).toEqual([history(), done]);
  });

  test('sees output even when no wake-up comes', async () => {
    const reader = await open();
    expect(await reader.next()).toEqual(history());
    await rig.db
      .insertInto('log_chunks')
      .values({ job_id: jobId, seq: 1, stream: 0, content: Buffer.from('x'), at: new Date(1_750_000_000_123) })
      .execute();
    expect(await reader.next()).toEqual(chunk(1, 'x'));
  });

  test('waits while the database is away, and gets the rest', async () => {
    const reader = await open();
    expect(await reader.next()).toEqual(history());
    await rig.db.transaction().execute(async (tx) => {
      await sql`lock table log_chunks`.execute(tx);
      await notify(rig.db, 'job', jobId);
      const endReads = sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where wait_event_type = 'Lock' and datname = current_database()`;
      await expect.poll(async () => (await endReads.execute(rig.db)).rows.length).toBeGreaterThan(0);
    });
    await say('a');
    await end();
    expect(await reader.rest()).toEqual([chunk(1, 'a'), done]);
  });

  test('goes on where it stopped, by header or by query', async () => {
    await say('a', 'b', 'c');
    await end();
    const rest = [history(chunk(3, 'c')), done];
    expect(await (await open('', { 'last-event-id': '2' })).rest()).toEqual(rest);
    expect(await (await open('&last_event_id=2')).rest()).toEqual(rest);
    expect(await (await open('&last_event_id=0', { 'last-event-id': '2' })).rest()).toEqual(rest);
    expect(await (await open('&last_event_id=99')).rest()).toEqual([history(), done]);
    const all = [history(chunk(1, 'a'), chunk(2, 'b'), chunk(3, 'c')), done];
    for (const id of ['-7', 'x', '', '9'.repeat(40)]) {
      expect([id, await (await open(`&last_event_id=${id}`)).rest()]).toEqual([id, all]);
    }
  });

  test('gets more than two megabytes of the past as history and chunks', async () => {
    const line = 'x'.repeat(64 * 1024);
    for (let round = 0; round < 10; round++) await say(...Array<string>(10).fill(line));
    await end();
    const events = await (await open()).rest();
    const [first, ...others] = events;
    const inHistory = chunksOf(first).chunks.length;
    expect(inHistory).toBe(32);
    expect(others.map(({ event }) => event)).toEqual([...Array(100 - 32).fill('chunk'), 'done']);
    expect(others.slice(0, -1).map(({ id }) => Number(id))).toEqual(Array.from({ length: 68 }, (_, n) => n + 33));
  });
});

describe('text', () => {
  const euro = Buffer.from('€');
  const face = Buffer.from('😀');

  test('a character over several chunks comes out whole, streams apart', async () => {
    await say(euro.subarray(0, 1), { stream: 1, content: face.subarray(0, 2) }, euro.subarray(1, 2), euro.subarray(2));
    await say({ stream: 1, content: face.subarray(2) });
    await end();
    const expected = [chunk(1, ''), chunk(2, '', 1), chunk(3, ''), chunk(4, '€'), chunk(5, '😀', 1)];
    expect(await (await open()).rest()).toEqual([history(...expected), done]);
  });

  test('a reader that comes back in the middle of a character gets it whole', async () => {
    const bytes = Buffer.concat([Buffer.from('a'), face, euro, Buffer.from('b')]);
    await say(...Array.from(bytes, (byte) => Buffer.from([byte])));
    await end();
    for (let last = 0; last <= bytes.length; last++) {
      const [whole, partial] = [await (await open()).rest(), await (await open(`&last_event_id=${last}`)).rest()];
      const contents = (events: typeof whole) => chunksOf(events[0]).chunks.filter(({ seq }) => seq > last);
      expect(contents(partial)).toEqual(contents(whole));
    }
  });

  test('what is no UTF-8 becomes a replacement character, also at the very end', async () => {
    await say(Buffer.from([0x61, 0xff, 0x62, 0xc0, 0xaf]), Buffer.from('\ufeffbom'), euro.subarray(0, 2));
    await end();
    const expected = [chunk(1, 'a\ufffdb\ufffd\ufffd'), chunk(2, '\ufeffbom'), chunk(3, '')];
    const events = await (await open()).rest();
    expect(events).toEqual([history(...expected), chunk(4, '\ufffd'), done]);
    expect(await (await open('&last_event_id=4')).rest()).toEqual([history(), done]);
  });

  test('line ends of every kind stay inside the data', async () => {
    await say('10%\r20%\r\n\n\u2028');
    await end();
    expect(await (await open()).rest()).toEqual([history(chunk(1, '10%\r20%\r\n\n\u2028')), done]);
  });
});

describe('refusals', () => {
  test('are bare, and tell a bad token from a token for something else', async () => {
    const good = tokenFor(buildId);
    const [body = '', signature = ''] = good.split('.');
    const unauthorized = [
      '',
      'x',
      body,
      `${body}.${'A'.repeat(43)}`,
      `${body}x.${signature}`,
      tokenFor(buildId, Math.floor(Date.now() / 1000) - 1),
      signBuildToken('another secret', { buildId, expiresAtS: hourFromNow() }),
      signBuildToken(rig.secrets.runnerTokenSecret, { buildId, expiresAtS: hourFromNow() }),
      rig.token,
    ];
    for (const token of unauthorized) {
      const { status, json } = await rig.call('GET', `/v0/jobs/${jobId}/logs?token=${token}`, { token: null });
      expect([token, status, json]).toEqual([
        token,
        401,
        { code: 'log_stream_unauthorized', message: expect.any(String) },
      ]);
    }
    for (const [id, token] of [
      [jobId, tokenFor(randomUUID())],
      [randomUUID(), good],
      ['nope', good],
    ]) {
      const { status, json } = await rig.call('GET', `/v0/jobs/${id}/logs?token=${token}`, { token: null });
      expect([status, json]).toEqual([403, { code: 'log_stream_forbidden', message: expect.any(String) }]);
    }
    expect((await rig.call('GET', `/v0/jobs/${jobId}/logs`)).status).toBe(401);
    expect((await rig.call('GET', `/v0/jobs/${jobId}/logs?token=a&token=b`)).status).toBe(401);
  });

  test('a token is good for every job of its build until it is over', async () => {
    const token = tokenFor(buildId, 2_000_000_000);
    rig.nowMs = 2_000_000_000_000;
    const over = await rig.call('GET', `/v0/jobs/${jobId}/logs?token=${token}`);
    rig.nowMs = null;
    expect(over.status).toBe(401);
    const { json } = await rig.call('GET', `/api/v0/organizations/local/pipelines/${pipeline}/builds/1/log-token`);
    expect(json.token).toContain('.');
  });

  test('pages of a known origin may read', async () => {
    await end();
    const reader = await open('', { origin: 'http://dashboard.test' });
    expect(reader.headers.get('access-control-allow-origin')).toBe('http://dashboard.test');
  });
});

describe('resources', () => {
  const openStreams = async () =>
    Number(/^caisson_open_log_streams (\d+)$/m.exec((await rig.call('GET', '/metrics')).text)?.[1]);

  test('a reader that goes away frees everything', async () => {
    for (const reader of readers) reader.close();
    await expect.poll(openStreams).toBe(0);
    const mine = [await open(), await open(), await open()];
    for (const reader of mine) await reader.next();
    expect(await openStreams()).toBe(3);
    for (const reader of mine) reader.close();
    await expect.poll(openStreams).toBe(0);
  });

  test('a reader that takes nothing holds up no memory and nobody else', async () => {
    const line = 'y'.repeat(256 * 1024);
    for (let round = 0; round < 32; round++) await say(...Array<string>(8).fill(line));
    const { hostname, port } = new URL(rig.url);
    const sockets = Array.from({ length: 4 }, () => {
      const socket = connect(Number(port), hostname);
      socket.pause();
      socket.write(`GET ${path()} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return socket;
    });
    await expect.poll(openStreams).toBe(4);
    const before = process.memoryUsage().rss;
    await end();
    const events = await (await open()).rest();
    expect(events.at(-1)).toEqual(done);
    const seen = events.filter(({ event }) => event === 'chunk').length;
    expect(seen + chunksOf(events[0]).chunks.length).toBe(256);
    // 64 MiB are stored, four readers are stuck: what they hold is a page and a buffer each.
    expect(process.memoryUsage().rss - before).toBeLessThan(300 * 2 ** 20);
    for (const socket of sockets) socket.destroy();
    await expect.poll(openStreams).toBe(0);
  });
});

test('closing the server ends the streams without done and lets requests finish', async () => {
  const own = await ciRig();
  try {
    const name = await own.pipeline();
    const build = await own.build(name, ir({ a: ['true'] }));
    const reader = await readEvents(await own.logUrl(build.id, 'a'));
    expect(await reader.next()).toEqual(history());
    const release = Promise.withResolvers<void>();
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(Buffer.from([0x1f, 0x8b]));
        await release.promise;
        controller.close();
      },
    });
    const headers = { 'content-type': 'application/gzip' };
    const upload = own.call('PUT', '/api/v0/organizations/local/sources', { body, headers });
    await expect.poll(() => own.uploads()).toBe(1);
    const closed = own.closeApp();
    expect(await reader.rest()).toEqual([]);
    release.resolve();
    expect((await upload).status).toBe(201);
    await closed;
    await expect(fetch(`${own.url}/healthz`)).rejects.toThrow();
  } finally {
    await own.close();
  }
});
