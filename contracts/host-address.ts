import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { AppError } from './app-error.ts';

/** Where a host answers: a unix socket that only its owner may open, or a port of a network, guarded by a secret both sides know. */
export type HostAddress =
  | { readonly kind: 'socket'; readonly path: string }
  | { readonly kind: 'network'; readonly address: string; readonly port: number; readonly token: string };

const leastTokenLength = 32;
const identity = 'caisson';

/**
 * Reads `<path>`, `<address>:<port>` or `[<IPv6 address>]:<port>`. `token` is CAISSON_HOST_TOKEN, which only the latter need; throws
 * `invalid_config` when it is missing or short.
 */
export function readHostAddress(text: string, token: string | null): HostAddress {
  const [, ipv6, name, port] = /^(?:\[([^\]]+)\]|([^/:]+)):(\d{1,5})$/.exec(text) ?? [];
  const address = ipv6 ?? name;
  if (address === undefined) return { kind: 'socket', path: text };
  if (token === null || token.length < leastTokenLength) {
    throw new AppError(
      'invalid_config',
      `a host at ${text} needs CAISSON_HOST_TOKEN, the same on both sides and at least ${leastTokenLength} characters long`,
    );
  }
  return { kind: 'network', address, port: Number(port), token };
}

/** Opens a connection to a host. */
export function connectTo(to: HostAddress): Socket {
  if (to.kind === 'socket') return connect(to.path);
  const psk = keyOf(to.token);
  return connectTls({
    ...{ host: to.address, port: to.port, ...tls, ALPNProtocols: ['h2'] },
    pskCallback: () => ({ identity, psk }),
    // Whoever knows the secret is the host; there is no certificate.
    checkServerIdentity: () => undefined,
  });
}

/** What the listening side needs for TLS with this secret. */
export function serverTls(token: string) {
  const psk = keyOf(token);
  return { ...tls, pskCallback: (_socket: unknown, claimed: string) => (claimed === identity ? psk : null) };
}

/** A secret in place of certificates proves both sides to each other; Node offers that up to TLS 1.2, here with forward secrecy. */
const tls = {
  ciphers: 'ECDHE-PSK-CHACHA20-POLY1305',
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.2',
} as const satisfies ConnectionOptions;

function keyOf(token: string): Buffer {
  return createHash('sha256').update(`caisson host ${token}`).digest();
}
