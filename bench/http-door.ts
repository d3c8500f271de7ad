import { once } from 'node:events';
import { connect, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Machine } from '../host/machine-driver.ts';
import { runInside } from './capsules.ts';

/** A client of `POST /exec` over HTTP/2 on the loopback, and the server that answers it with a capsule's guest link. */
interface HttpDoor {
  /** Runs a program in the capsule and returns what it printed; throws unless the server says it exited with 0. */
  exec(argv: readonly [string, ...string[]]): Promise<string>;
  end(): Promise<void>;
}

/** Client and server share this process, so each waits for the other's turn: the dearest way to measure a round trip. */
export async function openHttpDoor(machine: Machine): Promise<HttpDoor> {
  const server = createServer();
  server.on('stream', (stream) => void answer(stream, machine));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const session = connect(`http://127.0.0.1:${port}`);
  await once(session, 'connect');
  return {
    async exec(argv) {
      const stream = session.request({ ':method': 'POST', ':path': '/exec', 'content-type': 'application/json' });
      stream.end(JSON.stringify({ argv }));
      const [headers] = await once(stream, 'response');
      const said = await text(stream);
      if (headers[':status'] !== 200) throw new Error(`the server said ${headers[':status']}: ${said}`);
      return (JSON.parse(said) as { output: string }).output;
    },
    async end() {
      session.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(stream: ServerHttp2Stream, machine: Machine): Promise<void> {
  try {
    const { argv } = JSON.parse(await text(stream));
    const output = await runInside(machine, argv);
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    stream.end(JSON.stringify({ exitCode: 0, output }));
  } catch (error) {
    stream.respond({ ':status': 500 });
    stream.end(String(error));
  }
}
