import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildAgent } from '../../host/guest-binary.ts';
import { connectGuest } from '../../host/guest-channel.ts';
import { encodeExec } from '../../host/guest-exec.ts';
import { encodeFrame, hostFrame } from '../../host/guest-frames.ts';
import { residentKib } from './agent-fixture.ts';
import { sanitizedVariant } from './agent-variants.ts';

const greeting = encodeFrame({ type: hostFrame.hello, id: 0, payload: Buffer.from('CAISSON\0\x01\0\x01\0', 'latin1') });

/** A few numbers that name the same processes and requests again and again. */
const id = fc.integer({ min: 1, max: 6 });
const requestId = fc.integer({ min: 1, max: 60 });
const uint32 = fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.constantFrom(0, 0x7fffffff, 1, 100)).map((value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
});
const offset = fc
  .tuple(
    fc.oneof({ weight: 6, arbitrary: fc.constant(Buffer.alloc(4)) }, { weight: 1, arbitrary: uint32 }),
    fc.constantFrom(...Array(9).fill(Buffer.alloc(4)), Buffer.alloc(4, 0xff)),
  )
  .map((parts) => Buffer.concat(parts));
const bytes = fc.uint8Array({ maxLength: 200 }).map((value) => Buffer.from(value));
const path = fc
  .constantFrom('/', '/etc/passwd', '/etc', '/x', '/x/y', '/x/y/z', '/tmp/../x', '//', '/dev/null', '', 'x')
  .map((text) => Buffer.from(text));
const exec = fc
  .record({
    argv: fc.constantFrom<[string, ...string[]]>(
      ['/bin/agent'],
      ['agent', 'serve'],
      ['no'],
      ['/bin/agent', 'listen', '/s', '--', 'x'],
    ),
    cwd: fc.constantFrom('/', '/x', '/etc/passwd'),
    user: fc.constantFrom('65534', '65534', '65534', 'user7', '', 'root', 'nobody', '65534', '1:2', 'x'.repeat(300)),
    stdin: fc.boolean(),
    timeoutMs: fc.constantFrom(1, 50, 100_000),
    pty: fc.constantFrom(false, false, false, true),
  })
  .map(({ pty, ...spec }) => encodeExec({ ...spec, env: { A: 'b' }, ...(pty ? { pty: { rows: 1, cols: 1 } } : {}) }));

const payloads: ReadonlyMap<number, fc.Arbitrary<Buffer>> = new Map<number, fc.Arbitrary<Buffer>>([
  [hostFrame.hello, fc.constant(Buffer.from('CAISSON\0\x01\0\x01\0', 'latin1'))],
  [hostFrame.ping, fc.uint8Array({ maxLength: 65 }).map((value) => Buffer.from(value))],
  [hostFrame.exec, exec],
  [hostFrame.attach, fc.tuple(offset, uint32).map((parts) => Buffer.concat(parts))],
  [hostFrame.credit, uint32],
  [hostFrame.acknowledge, offset],
  [hostFrame.stdin, bytes],
  [hostFrame.stdinClose, fc.constant(Buffer.alloc(0))],
  [hostFrame.signal, fc.constantFrom(1, 2, 9, 15, 64).map((number) => Buffer.from([number, 0, 0, 0]))],
  [hostFrame.resize, uint32],
  [hostFrame.forget, fc.constant(Buffer.alloc(0))],
  ...[hostFrame.read, hostFrame.write, hostFrame.stat, hostFrame.list, hostFrame.mkdir, hostFrame.remove].map(
    (type): [number, fc.Arbitrary<Buffer>] => [type, fc.tuple(uint32, path).map((parts) => Buffer.concat(parts))],
  ),
  [hostFrame.data, bytes],
  [hostFrame.end, fc.constant(Buffer.alloc(0))],
  [hostFrame.cancel, fc.constant(Buffer.alloc(0))],
  [hostFrame.requestCredit, uint32],
]);

const execFrame = fc.record({ type: fc.constant(hostFrame.exec), id, payload: exec }).map(encodeFrame);
const frame = fc.oneof(
  execFrame,
  execFrame,
  execFrame,
  ...[...payloads].map(([type, payload]) =>
    fc
      .record({
        type: fc.constant(type),
        id: type >= hostFrame.read ? requestId : id,
        flags: fc.constantFrom(0, 0, 0, type === hostFrame.exec ? 0 : 1),
        payload,
      })
      .map(encodeFrame),
  ),
);
const mutation = fc.record({
  at: fc.double({ min: 0, max: 0.999, noNaN: true }),
  kind: fc.constantFrom('flip', 'drop', 'insert', 'cut', 'repeat'),
  value: fc.integer({ min: 0, max: 255 }),
});

function mutate(stream: Buffer, { at, kind, value }: { at: number; kind: string; value: number }): Buffer {
  const position = Math.floor(at * stream.length);
  const [before, after] = [stream.subarray(0, position), stream.subarray(position)];
  if (kind === 'flip') return Buffer.concat([before, Buffer.from([value]), after.subarray(1)]);
  if (kind === 'drop') return Buffer.concat([before, after.subarray(1 + (value % 16))]);
  if (kind === 'insert') return Buffer.concat([before, Buffer.alloc(1 + (value % 16), value), after]);
  if (kind === 'cut') return before;
  return Buffer.concat([before, after.subarray(0, value), after]);
}

const sequence = fc.array(frame, { minLength: 1, maxLength: 20, size: 'max' }).map((frames) => Buffer.concat(frames));
const whole = (frames: Uint8Array): Buffer => Buffer.concat([greeting, frames]);
const stream = fc.oneof(
  { weight: 3, arbitrary: sequence.map(whole) },
  {
    weight: 5,
    arbitrary: fc
      .tuple(sequence, fc.array(mutation, { minLength: 1, maxLength: 5 }))
      .map(([valid, mutations]) => whole(mutations.reduce(mutate, valid))),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 2_000 }).map(whole) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 500 }).map((noise) => Buffer.from(noise)) },
);

let directory: string;
let program: string;
let agent: ChildProcess;
let complaints = '';
const socketPath = (): string => join(directory, 'agent.sock');

async function start(): Promise<void> {
  const listen = await buildAgent();
  agent = spawn(listen, ['listen', socketPath(), '--', program, join(directory, 'root')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ASAN_OPTIONS: 'detect_leaks=0' },
  });
  agent.stderr?.on('data', (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  while (!(await isAnswering())) if (agent.exitCode !== null) throw new Error(`exit ${agent.exitCode}: ${complaints}`);
}

async function stop(): Promise<void> {
  if (agent.exitCode !== null || agent.signalCode !== null) return;
  const exited = once(agent, 'exit');
  agent.kill('SIGKILL');
  await exited;
}

async function isAnswering(): Promise<boolean> {
  const link = await connectGuest(socketPath()).catch(() => null);
  if (link === null) return false;
  await link.ping();
  link.close();
  return true;
}

/** Sends the bytes, in two goes if it answers the first, and waits until the agent has read all and closes its end. */
async function feed(input: Buffer): Promise<void> {
  const socket = createConnection(socketPath());
  const half = Math.floor(input.length / 2);
  socket.on('error', () => undefined); // the agent may close before it has read everything
  const closed = new Promise((resolve) => {
    socket.once('close', resolve);
  });
  const answered = new Promise((resolve) => {
    socket.once('data', resolve);
  });
  socket.write(input.subarray(0, half));
  if (half >= greeting.length && input.subarray(0, greeting.length).equals(greeting)) {
    await Promise.race([answered, closed]);
  }
  socket.resume();
  socket.end(input.subarray(half));
  await closed;
}

describe.skipIf(sanitizedVariant === null)('hostile bytes (skipped without sanitizers)', () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'caisson-fuzz-'));
    program = await buildAgent({ variant: 'sanitized', mainPath: join(import.meta.dirname, 'fuzz-main.c') });
    for (const name of ['etc', 'dev', 'bin', 'x']) await mkdir(join(directory, 'root', name), { recursive: true });
    await copyFile(await buildAgent(), join(directory, 'root/bin/agent'));
    await writeFile(join(directory, 'root/dev/null'), '');
    const accounts = `${'x'.repeat(9000)}\nroot:x:0:0::/:\nbroken\nuser7:x:65534:65534::/:\nnobody:x:4294967295:1`;
    await writeFile(join(directory, 'root/etc/passwd'), accounts);
    await writeFile(join(directory, 'root/etc/group'), `g:x:1:root,${'user7,'.repeat(3000)}\nh:x:2:user7\n::::`);
    await chmod(join(directory, 'root'), 0o777);
    await chmod(join(directory, 'root/x'), 0o777);
    await chmod(directory, 0o755);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('neither crash nor hang nor grow the agent', { timeout: 120_000 }, async () => {
    for (let round = 0; round < 4; round += 1) {
      await start();
      try {
        const before = await residentKib(agent.pid ?? -1);
        await fc.assert(
          fc.asyncProperty(stream, async (input) => {
            await feed(input);
            if (agent.exitCode !== null || agent.signalCode !== null) throw new Error(`the agent died: ${complaints}`);
          }),
          { numRuns: 1_000 },
        );
        expect(await isAnswering()).toBe(true);
        expect((await residentKib(agent.pid ?? -1)) - before).toBeLessThan(24 * 1024); // every buffer it may touch
        expect(complaints).toBe('');
      } finally {
        await stop();
      }
    }
  });
});
