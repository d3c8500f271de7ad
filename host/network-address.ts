import { AppError } from '@caisson/contracts/app-error';

/** An IPv4 network: its lowest address as an unsigned number, and the length of its prefix. */
export interface Ipv4Network {
  readonly base: number;
  readonly prefix: number;
}

/** Throws `invalid_argument` unless `text` is `a.b.c.d` or `a.b.c.d/n`. Host bits are cleared. */
export function parseIpv4Network(text: string): Ipv4Network {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(text);
  const octets = match?.slice(1, 5).map(Number) ?? [];
  const prefix = Number(match?.[5] ?? 32);
  if (octets.length !== 4 || octets.some((octet) => octet > 255) || prefix > 32) {
    throw new AppError('invalid_argument', `${JSON.stringify(text)} is not an IPv4 address or network`);
  }
  const address = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  return { base: address - (address % sizeOf(prefix)), prefix };
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

export function formatNetwork({ base, prefix }: Ipv4Network): string {
  return `${formatIpv4(base)}/${prefix}`;
}

export function overlaps(a: Ipv4Network, b: Ipv4Network): boolean {
  return a.base < b.base + sizeOf(b.prefix) && b.base < a.base + sizeOf(a.prefix);
}

function sizeOf(prefix: number): number {
  return 2 ** (32 - prefix);
}
