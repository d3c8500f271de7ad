import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A server with a public address (of the range for documentation) in a namespace of its own, which only this host can reach. */
export interface PublicServer {
  readonly address: string;
  /** Answers with `secret` on each of these. */
  readonly ports: readonly number[];
  end(): Promise<void>;
}

export async function openPublicServer(): Promise<PublicServer> {
  const id = process.pid % 65_536;
  const name = `caissonpublic${id}`;
  const link = `cp${id}`;
  const base = id & 0xfc;
  const [gateway, address] = [`203.0.113.${base + 1}`, `203.0.113.${base + 2}`];
  await run('ip', ['netns', 'add', name]);
  await run('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name]);
  await run('ip', ['addr', 'add', `${gateway}/30`, 'dev', link]);
  await run('ip', ['link', 'set', link, 'up']);
  await run('ip', ['-n', name, 'addr', 'add', `${address}/30`, 'dev', 'eth0']);
  await run('ip', ['-n', name, 'link', 'set', 'eth0', 'up']);
  await run('ip', ['-n', name, 'route', 'add', 'default', 'via', gateway]);
  const ports = [53, 853, 7001];
  const servers = ports.map((port) => {
    const serve = ['nc', '-ll', '-p', String(port), '-e', '/bin/echo', 'secret'];
    return execFile('ip', ['netns', 'exec', name, '/bin/busybox', ...serve]);
  });
  return {
    address,
    ports,
    async end() {
      const gone = servers.map((server) => new Promise((done) => server.once('exit', done)));
      for (const server of servers) server.kill('SIGKILL');
      await Promise.all(gone);
      await run('ip', ['link', 'del', link]);
      await run('ip', ['netns', 'del', name]);
    },
  };
}
