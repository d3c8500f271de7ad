import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Passes connections on to another place, late or slowly: what a long or thin line does. */
export interface SlowRelay {
  readonly where: string;
  /** Every byte comes so much later, in both directions. */
  delayMs: number;
  /** Bytes per second from the far end; 0 as fast as they come. */
  fromFarPerSecond: number;
  end(): Promise<void>;
}

export async function openSlowRelay(to: string): Promise<SlowRelay> {
  const [host = '', port = ''] = to.split(':');
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect({ host, port: Number(port) });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on('data', (part) => void delay(relay.delayMs).then(() => far.write(part)));
    passSlowly(far, near, relay).catch(() => {});
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const relay: SlowRelay = {
    where: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    delayMs: 0,
    fromFarPerSecond: 0,
    async end() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return relay;
}

/** Reads no faster than it passes on, so that the far end feels it. */
async function passSlowly(far: Socket, near: Socket, relay: SlowRelay): Promise<void> {
  for await (const part of far as AsyncIterable<Buffer>) {
    void delay(relay.delayMs).then(() => near.write(part));
    if (relay.fromFarPerSecond > 0) await delay((part.length / relay.fromFarPerSecond) * 1_000);
  }
}
