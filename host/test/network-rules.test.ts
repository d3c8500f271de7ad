import { expect, it } from 'vitest';
import { formatNetwork, overlaps, parseIpv4Network } from '../network-address.ts';
import { parseResolvConf, resolvConf } from '../network-resolvers.ts';
import { networkRules, parseAllowedTarget } from '../network-rules.ts';

it('reads networks and clears their host bits', () => {
  expect(formatNetwork(parseIpv4Network('10.1.2.3/8'))).toBe('10.0.0.0/8');
  expect(formatNetwork(parseIpv4Network('255.255.255.255'))).toBe('255.255.255.255/32');
  expect(formatNetwork(parseIpv4Network('1.2.3.4/0'))).toBe('0.0.0.0/0');
});

it.each(['10.0.0.0/33', '256.1.1.1', '1.2.3', 'fe80::1', 'a.b.c.d', '1.2.3.4/8 accept', ''])(
  'refuses %j as a network',
  (text) => {
    expect(() => parseIpv4Network(text)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  },
);

it('sees when two networks share an address', () => {
  const shares = (a: string, b: string) => overlaps(parseIpv4Network(a), parseIpv4Network(b));
  expect(shares('10.0.0.0/8', '10.255.255.53')).toBe(true);
  expect(shares('10.192.0.0/20', '10.192.16.0/20')).toBe(false);
  expect(shares('10.192.0.0/20', '0.0.0.0/0')).toBe(true);
});

it('reads allowed targets with and without a port', () => {
  expect(parseAllowedTarget('10.0.0.0/8:5432')).toMatchObject({ port: 5432, network: { prefix: 8 } });
  expect(parseAllowedTarget('192.168.1.1')).toMatchObject({ port: null, network: { prefix: 32 } });
  for (const text of ['10.0.0.0/8:0', '10.0.0.0/8:70000', '10.0.0.0/8:x', ':80']) {
    expect(() => parseAllowedTarget(text)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  }
});

it('lets the resolvers and the allowed targets through and nothing else that is private', () => {
  const rules = networkRules({
    table: 'caisson_abcdef',
    linkPrefix: 'csabcdef',
    block: parseIpv4Network('10.200.16.0/20'),
    resolvers: ['10.255.255.53'],
    allowed: [parseAllowedTarget('192.168.7.0/24:443')],
    maxConnections: 100,
  });
  expect(rules).toContain('ip daddr 10.255.255.53 meta l4proto { tcp, udp } th dport 53 accept');
  expect(rules).toContain('ip daddr 192.168.7.0/24 meta l4proto { tcp, udp } th dport 443 accept');
  expect(rules).toContain('ip saddr 10.200.16.0/20');
  expect(rules).toContain('ct count over 100');
  expect(rules.indexOf('dport 53 accept')).toBeLessThan(rules.indexOf('dport { 53, 853 } jump refuse'));
});

it('takes the name servers a capsule can reach', () => {
  const resolvers = parseResolvConf(
    '# c\nnameserver 127.0.0.53\nnameserver 10.0.0.2 # x\nnameserver fe80::1\nsearch a b\n',
  );
  expect(resolvers).toEqual({ addresses: ['10.0.0.2'], extraLines: ['search a b'], problem: null });
  expect(resolvConf(resolvers)).toBe('nameserver 10.0.0.2\nsearch a b\n');
});

it('says so when every name server is on loopback', () => {
  const { addresses, problem } = parseResolvConf('nameserver 127.0.0.53\n');
  expect(addresses).toEqual([]);
  expect(problem).toMatch(/only 127\.0\.0\.53/);
});
