import { execFile } from 'node:child_process';
import { createServer, type Server } from 'node:net';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A private network behind this host with one server in it, in a namespace of its own. */
export interface PrivateNetwork {
  /** The server's address; it greets with `secret` on `serverPort`. */
  readonly serverAddress: string;
  readonly serverPort: number;
  /** This host's address in that network. */
  readonly hostAddress: string;
  end(): Promise<void>;
}

export async function openPrivateNetwork(): Promise<PrivateNetwork> {
  const id = process.pid % 65_536;
  const name = `caissontest${id}`;
  const octets = `10.190.${id >> 8}`;
  const base = id & 0xfc;
  const [hostAddress, serverAddress] = [`${octets}.${base + 1}`, `${octets}.${base + 2}`];
  const link = `ct${id}`;
  await run('ip', ['netns', 'add', name]);
  await run('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name]);
  await run('ip', ['addr', 'add', `${hostAddress}/30`, 'dev', link]);
  await run('ip', ['link', 'set', link, 'up']);
  await run('ip', ['-n', name, 'addr', 'add', `${serverAddress}/30`, 'dev', 'eth0']);
  await run('ip', ['-n', name, 'link', 'set', 'eth0', 'up']);
  await run('ip', ['-n', name, 'route', 'add', 'default', 'via', hostAddress]);
  const serverPort = 7001;
  const serve = ['nc', '-ll', '-p', String(serverPort), '-e', '/bin/echo', 'secret'];
  const server = execFile('ip', ['netns', 'exec', name, '/bin/busybox', ...serve]);
  return {
    serverAddress,
    serverPort,
    hostAddress,
    async end() {
      const gone = new Promise((done) => server.once('exit', done));
      server.kill('SIGKILL');
      await gone;
      await run('ip', ['link', 'del', link]);
      await run('ip', ['netns', 'del', name]);
    },
  };
}

export interface HostServer {
  readonly port: number;
  end(): Promise<void>;
}

/** Greets with `secret` on every address of this host. */
export async function openHostServer(): Promise<HostServer> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end('secret\n');
  });
  await new Promise<void>((done) => server.listen(0, '0.0.0.0', done));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return { port: address.port, end: () => new Promise((done) => server.close(() => done())) };
}
