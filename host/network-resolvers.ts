import { readFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';

/** Name servers for capsules, and what to tell the operator when there is none. */
interface Resolvers {
  /** IPv4 addresses a capsule can reach. */
  readonly addresses: readonly string[];
  /** `search` and `options` lines of the host, passed on. */
  readonly extraLines: readonly string[];
  /** Why names will not resolve in capsules; null when they will. */
  readonly problem: string | null;
}

const candidateFiles = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'];

/** The host's own name servers. A stub on loopback cannot be reached from a capsule, so the servers behind it are looked up. */
export async function readHostResolvers(): Promise<Resolvers> {
  for (const path of candidateFiles) {
    const resolvers = parseResolvConf(await readFile(path, 'utf8').catch(() => ''));
    if (resolvers.problem === null) return resolvers;
  }
  return parseResolvConf(await readFile('/etc/resolv.conf', 'utf8').catch(() => ''));
}

/** The usable servers of a `resolv.conf`: IPv4 and not on loopback. */
export function parseResolvConf(text: string): Resolvers {
  const lines = text.split('\n').map((line) => line.replace(/[#;].*$/, '').trim());
  const servers = lines.flatMap((line) => /^nameserver\s+(\S+)$/.exec(line)?.[1] ?? []);
  const addresses = servers.filter((server) => isIPv4(server) && !server.startsWith('127.') && server !== '0.0.0.0');
  return {
    addresses: [...new Set(addresses)].slice(0, 3),
    extraLines: lines.filter((line) => /^(search|options)\s/.test(line)),
    problem: addresses.length > 0 ? null : problemWith(servers),
  };
}

function problemWith(servers: readonly string[]): string {
  const found = servers.length === 0 ? 'no name server' : `only ${servers.join(', ')}`;
  return `/etc/resolv.conf names ${found}, which capsules cannot reach; set the resolvers to IPv4 addresses outside loopback`;
}

/** The text of `/etc/resolv.conf` inside a capsule. */
export function resolvConf({ addresses, extraLines }: Resolvers): string {
  return [...addresses.map((address) => `nameserver ${address}`), ...extraLines, ''].join('\n');
}
