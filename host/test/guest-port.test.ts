import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connectGuest } from '../guest-channel.ts';
import { agentFrame, encodeFrame, hostFrame } from '../guest-frames.ts';
import { tempDir } from './temp-dir.ts';

const greeting = encodeFrame({ type: agentFrame.hello, id: 0, payload: greetingPayload() });

function greetingPayload(): Buffer {
  const payload = Buffer.alloc(48);
  payload.write('CAISSON\0', 'latin1');
  payload.writeUInt16LE(1, 8);
  return payload;
}

/** An agent behind a port: `onHello` gets the connection once padding and greeting have come. */
async function openPort(onHello: (socket: Socket, received: Buffer) => void): Promise<string> {
  const socketPath = join(await tempDir(), 'port.sock');
  const server = createServer((socket) => {
    let received = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      received = Buffer.concat([received, bytes]);
      if (received.includes('CAISSON\0')) onHello(socket, received);
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
  });
  return socketPath;
}

test('what was meant for an earlier host is skipped, in whatever pieces the greeting comes', async () => {
  const path = await openPort((socket, received) => {
    expect(received.subarray(0, 65_548).every((byte) => byte === 0)).toBe(true);
    expect(received.readUInt8(65_548)).toBe(hostFrame.hello);
    socket.write(Buffer.concat([Buffer.alloc(70_000, 0x92), greeting.subarray(0, 5)]));
    setImmediate(() => socket.write(greeting.subarray(5)));
  });
  const guest = await connectGuest(path, { isPort: true });
  guest.close();
  expect(await guest.closed).toBe('The connection was closed.');
});

test('a port that never greets is given up: in time, when it floods, and when the machine is gone', async () => {
  const mute = await openPort(() => {});
  await expect(connectGuest(mute, { isPort: true, greetingTimeoutMs: 20 })).rejects.toMatchObject({
    code: 'guest_lost',
  });
  const flood = await openPort((socket) => socket.write(Buffer.alloc(2 * 2 ** 20, 0x92)));
  await expect(connectGuest(flood, { isPort: true })).rejects.toMatchObject({ code: 'guest_lost' });
  const gone = new AbortController();
  const left = connectGuest(mute, { isPort: true, signal: gone.signal });
  gone.abort();
  await expect(left).rejects.toMatchObject({ code: 'guest_lost' });
});
