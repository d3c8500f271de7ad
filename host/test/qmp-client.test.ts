import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connectQmp, type QmpClient } from '../qmp-client.ts';
import { tempDir } from './temp-dir.ts';

const greeting = { QMP: { version: { qemu: { major: 10, minor: 0, micro: 13 } }, capabilities: [] } };

/** A control socket that answers the negotiation and then whatever `answer` says for a command. */
async function openQemu(answer: (command: string, id: number) => string | null) {
  const socketPath = join(await tempDir(), 'qmp.sock');
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write(`${JSON.stringify(greeting)}\r\n`);
    socket.on('data', (bytes) => {
      for (const line of bytes.toString().trim().split('\n')) {
        const { execute, id } = JSON.parse(line);
        const said = execute === 'qmp_capabilities' ? JSON.stringify({ return: {}, id }) : answer(execute, id);
        if (said !== null) socket.write(`${said}\r\n`);
      }
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  const qmp = await connectQmp(socketPath, { timeoutMs: 5_000 });
  onTestFinished(() => {
    qmp.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { qmp, say: (text: string) => sockets[0]?.write(text), hangUp: () => sockets[0]?.destroy() };
}

test('answers find their commands, in whatever order and pieces they come', async () => {
  const waiting: string[] = [];
  const { qmp, say } = await openQemu((command, id) => {
    waiting.unshift(JSON.stringify({ return: command, id }));
    return null;
  });
  const answers = Promise.all(['one', 'two', 'three'].map((command) => qmp.execute(command)));
  await expect.poll(() => waiting.length).toBe(3);
  const text = `${waiting.join('\r\n')}\r\n`;
  for (let at = 0; at < text.length; at += 7) say(text.slice(at, at + 7));
  expect(await answers).toEqual(['one', 'two', 'three']);
  expect(qmp.version).toBe('10.0.13');
});

test('a refusal carries the words of QEMU', async () => {
  const { qmp } = await openQemu((_, id) => JSON.stringify({ error: { class: 'GenericError', desc: 'not now' }, id }));
  await expect(qmp.execute('cont')).rejects.toMatchObject({ code: 'io_error', message: 'QEMU refused: not now' });
});

test('what waits is told when QEMU goes, and what comes later too', async () => {
  const { qmp, hangUp } = await openQemu(() => null);
  const waiting = qmp.execute('cont');
  hangUp();
  await expect(waiting).rejects.toMatchObject({ code: 'guest_lost' });
  await expect(qmp.execute('stop')).rejects.toMatchObject({ code: 'guest_lost' });
  expect(await qmp.closed).toMatch(/closed its control socket|connection to QEMU failed/);
});

test('a QEMU that does not answer is waited for only so long', async () => {
  const { qmp } = await openQemu((command, id) => (command === 'mute' ? null : JSON.stringify({ return: 1, id })));
  await expect(qmp.execute('mute', {}, 20)).rejects.toThrow(/did not answer "mute"/);
  expect(await qmp.execute('other')).toBe(1);
});

test.each([
  ['no JSON', 'hello\n'],
  ['no object', '[1]\n'],
  ['an answer nobody asked for', '{"return": {}, "id": 99}\n'],
  ['a line without end', 'x'.repeat(5 * 2 ** 20)],
])('%s ends the connection', async (_, text) => {
  const { qmp, say } = await openQemu(() => null);
  const waiting = qmp.execute('cont');
  say(text);
  await expect(waiting).rejects.toMatchObject({ code: 'guest_lost' });
  await qmp.closed;
});

test('events come in order to every reader until the end, and a slow reader keeps the newest', async () => {
  const { qmp, say, hangUp } = await openQemu(() => null);
  const first = names(qmp);
  const events = Array.from({ length: 300 }, (_, index) => `${JSON.stringify({ event: `E${index}` })}\n`);
  const slow = qmp.events();
  for (let at = 0; at < events.length; at += 100) {
    say(events.slice(at, at + 100).join(''));
    await expect.poll(() => first.seen.length).toBe(at + 100);
  }
  hangUp();
  await first.end;
  expect(first.seen).toEqual(events.map((_, index) => `E${index}`));
  const late: string[] = [];
  for await (const { name } of slow) late.push(name);
  expect([late.length, late[0], late.at(-1)]).toEqual([256, 'E44', 'E299']);
});

function names(qmp: QmpClient): { readonly seen: string[]; readonly end: Promise<void> } {
  const seen: string[] = [];
  const read = async () => {
    for await (const { name } of qmp.events()) seen.push(name);
  };
  return { seen, end: read() };
}
