import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectGuest } from '../guest-channel.ts';
import { agentFrame, createFrameReader, encodeFrame, hostFrame } from '../guest-frames.ts';
import type { GuestLink } from '../guest-link.ts';

/** What a hostile agent does with a frame of the host: whatever it likes. Host frames are read with the high bit added. */
type Reaction = (frame: { type: number; id: number; payload: Buffer }, socket: Socket) => void;

let directory: string;
let server: Server;
let react: Reaction = () => undefined;
let greet = true;
/** Reads nothing after the greeting. */
let isDeaf = false;
const sockets = new Set<Socket>();

const greeting = Buffer.alloc(48);
greeting.write('CAISSON\0', 'latin1');
greeting.writeUInt16LE(1, 8);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-hostile-'));
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    const read = createFrameReader((frame) => {
      const type = frame.type & 0x7f;
      if (type === hostFrame.hello && greet)
        socket.write(encodeFrame({ type: agentFrame.hello, id: 0, payload: greeting }));
      else react({ ...frame, type }, socket);
    });
    socket.on('data', (chunk: Buffer) => {
      if (isDeaf) socket.pause();
      try {
        read(withHighBits(chunk));
      } catch {
        socket.destroy(); // pieces of large requests are not put together here
      }
    });
  });
  server.listen(join(directory, 'agent.sock'));
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  await rm(directory, { recursive: true, force: true });
});

/** Small requests come whole in one chunk, so each frame's first byte can be marked for the agent-side reader. */
function withHighBits(chunk: Buffer): Buffer {
  const marked = Buffer.from(chunk);
  for (let at = 0; at + 12 <= marked.length; at += 12 + marked.readUInt32LE(at + 8))
    marked[at] = (marked[at] ?? 0) | 0x80;
  return marked;
}

async function connect(reaction: Reaction): Promise<GuestLink> {
  greet = true;
  react = reaction;
  return connectGuest(join(directory, 'agent.sock'));
}

const exec = { argv: ['true'] as const, env: {}, cwd: '/' };
const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const output = (id: number, start: number, size: number, flags = 0): Buffer => {
  const payload = Buffer.alloc(8 + size);
  payload.writeBigUInt64LE(BigInt(start));
  return encodeFrame({ type: agentFrame.output, id, flags, payload });
};
const exit = (id: number, end: number, code = 0): Buffer =>
  encodeFrame({
    type: agentFrame.exit,
    id,
    payload: Buffer.concat([number(code), number(0), number(end), number(0)]),
  });
const started = (id: number, credit = 65_536): Buffer =>
  encodeFrame({ type: agentFrame.started, id, payload: number(credit) });
const entry = (name: string, type = 1): Buffer => {
  const head = Buffer.alloc(31);
  head[0] = type;
  head.writeUInt16LE(Buffer.byteLength(name), 29);
  return Buffer.concat([head, Buffer.from(name)]);
};

const onExec: [string, (id: number) => Buffer[]][] = [
  ['an answer for another process', (id) => [started(id + 1)]],
  ['a start with more credit than its buffer', (id) => [started(id, 65_537)]],
  ['a start of a wrong size', (id) => [encodeFrame({ type: agentFrame.started, id })]],
  [
    'an attach where a start belongs',
    (id) => [encodeFrame({ type: agentFrame.attached, id, payload: Buffer.alloc(20) })],
  ],
  ['a second start', (id) => [started(id), started(id)]],
  ['output with a gap', (id) => [started(id), output(id, 1, 5)]],
  ['output that repeats', (id) => [started(id), output(id, 0, 5), output(id, 0, 5)]],
  ['output of nothing', (id) => [started(id), output(id, 0, 0)]],
  ['output of an unknown stream', (id) => [started(id), output(id, 0, 5, 2)]],
  ['output before the start', (id) => [output(id, 0, 5)]],
  ['output of another process', (id) => [started(id), output(id + 1, 0, 5)]],
  ['output after the exit', (id) => [started(id), exit(id, 0), output(id, 0, 5)]],
  ['more output than there is credit', (id) => [started(id), ...flood(id)]],
  ['many tiny pieces beyond the credit', (id) => [started(id), ...drizzle(id)]],
  ['an exit before the end of the output', (id) => [started(id), exit(id, 1)]],
  ['two exits', (id) => [started(id), exit(id, 0), exit(id, 0)]],
  ['an impossible exit code', (id) => [started(id), exit(id, 0, 256)]],
  [
    'an offset beyond all numbers',
    (id) => [started(id), encodeFrame({ type: agentFrame.output, id, payload: Buffer.alloc(20, 0xff) })],
  ],
  [
    'credit for input beyond its buffer',
    (id) => [started(id), encodeFrame({ type: agentFrame.stdinCredit, id, payload: number(1) })],
  ],
  ['a forgotten process nobody forgot', (id) => [started(id), encodeFrame({ type: agentFrame.forgotten, id })]],
  ['a pong nobody asked for', (id) => [encodeFrame({ type: agentFrame.pong, id })]],
  ['a second greeting', () => [encodeFrame({ type: agentFrame.hello, id: 0, payload: greeting })]],
  ['a frame of an unknown type', (id) => [encodeFrame({ type: 0xff, id })]],
  [
    'an error of an unknown kind',
    (id) => [encodeFrame({ type: agentFrame.processError, id, payload: Buffer.from([99, 0]) })],
  ],
  ['an error without a code', (id) => [encodeFrame({ type: agentFrame.processError, id })]],
  [
    'an error of endless words',
    (id) => [encodeFrame({ type: agentFrame.processError, id, payload: Buffer.alloc(600, 1) })],
  ],
];

function flood(id: number): Buffer[] {
  return Array.from({ length: 9 }, (_, index) => output(id, index * 32_768, 32_768));
}

function drizzle(id: number): Buffer[] {
  return Array.from({ length: 5_000 }, (_, index) => output(id, index, 1));
}

test.each(onExec)('%s ends the link', async (_, frames) => {
  const link = await connect((frame, socket) => {
    if (frame.type === hostFrame.exec) socket.write(Buffer.concat(frames(frame.id)));
  });
  const started = await link.exec(exec).catch((error: { code: string }) => error.code);
  if (typeof started === 'string') expect(started).toBe('guest_protocol');
  expect(await link.closed).toMatch(/broke its protocol|malformed/);
  await expect(link.ping()).rejects.toMatchObject({ code: 'guest_protocol' });
});

test.each([
  ['a name that leads elsewhere', entry('../passwd')],
  ['the directory itself', entry('.')],
  ['the parent', entry('..')],
  ['an empty name', entry('')],
  ['a name of an impossible length', entry('x'.repeat(256))],
  ['an unknown kind of file', entry('x', 9)],
  ['half an entry', entry('x').subarray(0, 20)],
  ['a name cut short', entry('xyz').subarray(0, 33)],
])('a listing with %s ends the link', async (_, payload) => {
  const link = await connect(({ id }, socket) => socket.write(encodeFrame({ type: agentFrame.entries, id, payload })));
  await expect(link.list('/')).rejects.toMatchObject({ code: 'guest_protocol' });
});

test('a listing without an end is refused at its limit', async () => {
  const payload = Buffer.concat(Array.from({ length: 600 }, (_, index) => entry(`file-${index}`)));
  const link = await connect(({ type, id }, socket) => {
    if (type === hostFrame.list || type === hostFrame.requestCredit) {
      socket.write(encodeFrame({ type: agentFrame.entries, id, payload }));
    } else if (type === hostFrame.cancel) {
      socket.write(encodeFrame({ type: agentFrame.requestError, id, payload: Buffer.from([6, 0]) }));
    }
  });
  await expect(link.list('/')).rejects.toMatchObject({ code: 'limit_exceeded' });
  link.close();
});

test('file data beyond the credit ends the link', async () => {
  const link = await connect(({ id }, socket) => {
    for (let piece = 0; piece < 6; piece += 1) {
      socket.write(encodeFrame({ type: agentFrame.data, id, payload: Buffer.alloc(65_536) }));
    }
  });
  await expect(
    (async () => {
      for await (const _piece of link.readFile('/x')) await link.closed;
    })(),
  ).rejects.toMatchObject({ code: 'guest_protocol' });
});

test('the words of an error lose their control characters', async () => {
  const payload = Buffer.concat([Buffer.from([1, 0]), Buffer.from('no\x1b[2J\nfile')]);
  const link = await connect(({ id }, socket) =>
    socket.write(encodeFrame({ type: agentFrame.requestError, id, payload })),
  );
  await expect(link.stat('/x')).rejects.toMatchObject({ code: 'not_found', message: 'no?[2J?file' });
  link.close();
});

test('a greeting that is late, wrong or of another version is refused', async () => {
  const attempt = async (answer: Buffer | null): Promise<unknown> => {
    greet = false;
    react = ({ type }, socket) => {
      if (type === hostFrame.hello && answer !== null) socket.write(answer);
    };
    return connectGuest(join(directory, 'agent.sock'), { greetingTimeoutMs: 100 }).catch(
      (error: { code: string }) => error.code,
    );
  };
  const version = Buffer.from(greeting);
  version.writeUInt16LE(2, 8);
  const hello = (payload: Buffer): Buffer => encodeFrame({ type: agentFrame.hello, id: 0, payload });
  expect(await attempt(null)).toBe('guest_lost');
  expect(await attempt(hello(version))).toBe('guest_protocol');
  expect(await attempt(hello(Buffer.alloc(48)))).toBe('guest_protocol');
  expect(await attempt(hello(greeting.subarray(1)))).toBe('guest_protocol');
  expect(await attempt(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))).toBe('guest_protocol');
  await expect(connectGuest(join(directory, 'nobody.sock'))).rejects.toMatchObject({ code: 'guest_lost' });
});

test('an agent that does not read ends the link, before much waits for it', async () => {
  isDeaf = true;
  const link = await connect(() => undefined);
  const large = { ...exec, env: { LARGE: 'x'.repeat(1_000_000) } };
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => link.exec(large)));
  expect(await link.closed).toMatch(/does not read/);
  expect(outcomes.every((outcome) => outcome.status === 'rejected')).toBe(true);
  isDeaf = false;
  for (const socket of sockets) socket.destroy();
});

test('a ping is answered while all places for requests are taken', async () => {
  const link = await connect(({ type, id }, socket) => {
    if (type === hostFrame.ping) socket.write(encodeFrame({ type: agentFrame.pong, id }));
  });
  const waiting = Array.from({ length: 40 }, () => link.stat('/x').catch((error: { code: string }) => error.code));
  expect(await link.ping()).toBeGreaterThan(0);
  link.close();
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(['guest_lost']));
});

test('whatever an agent answers, every call ends and nothing is left open', async () => {
  const answer = fc.record({
    type: fc.oneof(fc.constantFrom(...Object.values(agentFrame)), fc.integer({ min: 0x80, max: 0xff })),
    flags: fc.integer({ min: 0, max: 2 }),
    shift: fc.constantFrom(0, 0, 0, 1),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom(0, 2, 4, 16, 20).map((size) => new Uint8Array(size)),
      fc.constant(entry('name')),
    ),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(answer, { minLength: 1, maxLength: 12 }),
      fc.uint8Array({ maxLength: 30 }),
      async (answers, noise) => {
        const link = await connect(({ id }, socket) => {
          const frames = answers.map(({ shift, ...rest }) => encodeFrame({ ...rest, id: id + shift }));
          socket.end(Buffer.concat([...frames, noise]));
        });
        const calls = [
          link.exec(exec).then(async (process) => {
            for await (const _ of process.output());
            await process.exit;
          }),
          link.attach(2, 0).then((process) => process?.write(Buffer.alloc(100_000))),
          link.stat('/x'),
          link.list('/x'),
          link.ping(),
          link.writeFile(
            '/x',
            (async function* () {
              yield Buffer.alloc(200_000);
            })(),
          ),
          (async () => {
            for await (const _ of link.readFile('/x'));
          })(),
        ];
        await Promise.allSettled(calls);
        await link.closed;
      },
    ),
    { numRuns: 300 },
  );
  while (sockets.size > 0) await new Promise((resolve) => setImmediate(resolve));
});
