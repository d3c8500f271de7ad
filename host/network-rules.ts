import { AppError } from '@caisson/contracts/app-error';
import type { Ipv4Network } from './network-address.ts';
import { formatNetwork, parseIpv4Network } from './network-address.ts';

/** What a capsule may reach although it lies in a refused range. */
interface AllowedTarget {
  readonly network: Ipv4Network;
  /** TCP and UDP port; null for every port and protocol. */
  readonly port: number | null;
}

/** Reads `CIDR` or `CIDR:port` as written in the configuration; throws `invalid_argument` with the text at fault. */
export function parseAllowedTarget(text: string): AllowedTarget {
  const [network = '', port] = text.split(':');
  if (port === undefined) return { network: parseIpv4Network(network), port: null };
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    throw new AppError('invalid_argument', `${JSON.stringify(text)} does not end in a port between 1 and 65535`);
  }
  return { network: parseIpv4Network(network), port: Number(port) };
}

/** Everything that is not the public internet: this network, private, carrier-grade NAT, loopback, link-local, multicast. */
const refusedNetworks = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/3',
] as const;

export interface RuleOptions {
  readonly table: string;
  /** What the host's end of every capsule's link starts with. */
  readonly linkPrefix: string;
  /** The installation's addresses. */
  readonly block: Ipv4Network;
  readonly resolvers: readonly string[];
  readonly allowed: readonly AllowedTarget[];
  /** Connections one capsule may have at a time; null on a kernel that cannot count them. */
  readonly maxConnections: number | null;
}

/**
 * The whole rule set as an nft script that replaces the table in one transaction. It names links by their prefix, so a new
 * capsule needs no new rule. A refusal is answered (reset or unreachable), so that programs fail at once instead of hanging.
 */
export function networkRules({ table, linkPrefix, block, resolvers, allowed, maxConnections }: RuleOptions): string {
  // The host has one table of connections for itself and all capsules.
  const count =
    maxConnections === null
      ? ''
      : `ct state new add @connections { ip saddr ct count over ${maxConnections} } jump refuse`;
  const link = `"${linkPrefix}*"`;
  const exceptions = [
    ...resolvers.map((address) => `ip daddr ${address} meta l4proto { tcp, udp } th dport 53 accept`),
    ...allowed.map(({ network, port }) => {
      const target = `ip daddr ${formatNetwork(network)}`;
      return port === null ? `${target} accept` : `${target} meta l4proto { tcp, udp } th dport ${port} accept`;
    }),
  ];
  return `
table inet ${table} {}
delete table inet ${table}
table inet ${table} {
  set refused {
    type ipv4_addr
    flags interval
    elements = { ${refusedNetworks.join(', ')} }
  }
  set connections {
    type ipv4_addr
    size 65535
    flags dynamic
  }
  # No IPv6 yet, and no packet whose source is not the address of the link it came by.
  chain genuine {
    type filter hook prerouting priority raw; policy accept;
    iifname != ${link} return
    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
  }
  chain exceptions {
    ${exceptions.join('\n    ')}
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  # To the host itself: nothing but answers.
  chain to_host {
    type filter hook input priority filter - 5; policy accept;
    iifname != ${link} return
    ct state established,related accept
    ${count}
    jump exceptions
    jump refuse
  }
  chain through_host {
    type filter hook forward priority filter - 5; policy accept;
    iifname ${link} jump outbound
    oifname ${link} ct state established,related accept
    oifname ${link} jump refuse
  }
  chain outbound {
    ct state established,related accept
    oifname ${link} jump refuse
    ${count}
    jump exceptions
    ip daddr @refused jump refuse
    # Names are asked of the host's resolvers only, in plain and over TLS.
    meta l4proto { tcp, udp } th dport { 53, 853 } jump refuse
    accept
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${formatNetwork(block)} oifname != ${link} masquerade
  }
}
`;
}
