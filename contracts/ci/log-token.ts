import { base64UrlOf, bytesOfBase64Url } from '../base64url.ts';

/** HMAC-SHA256 of a text's UTF-8 bytes under the installation's secret. */
type Hmac = (text: string) => Uint8Array;

/** What a log token grants: every job of one build, until `expiresAtS` (seconds since 1970). */
export interface LogGrant {
  /** Id under which capsules and log readers know the build. */
  readonly buildId: string;
  readonly expiresAtS: number;
}

/** `base64url(json) "." base64url(hmac)`. */
export function signLogToken(grant: LogGrant, hmac: Hmac): string {
  const json = JSON.stringify({ build: grant.buildId, exp: grant.expiresAtS });
  const payload = base64UrlOf(new TextEncoder().encode(json));
  return `${payload}.${base64UrlOf(hmac(payload))}`;
}

/** The grant of a genuine token that has not expired, else null; why it is refused is nobody's business. */
export function readLogToken(token: string, hmac: Hmac, nowMs: number): LogGrant | null {
  const [payload, signature, ...rest] = token.split('.');
  if (!payload || !signature || rest.length > 0) return null;
  const given = bytesOfBase64Url(signature);
  if (!given || !sameBytes(given, hmac(payload))) return null;
  const grant = grantOf(payload);
  return grant && grant.expiresAtS * 1000 > nowMs ? grant : null;
}

function grantOf(payload: string): LogGrant | null {
  const bytes = bytesOfBase64Url(payload);
  if (!bytes) return null;
  try {
    const { build, exp }: { build?: unknown; exp?: unknown } = JSON.parse(new TextDecoder().decode(bytes)) ?? {};
    return typeof build === 'string' && typeof exp === 'number' ? { buildId: build, expiresAtS: exp } : null;
  } catch {
    return null;
  }
}

/** Compares in a time that depends on the lengths only. */
function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  let difference = 0;
  for (const [index, byte] of left.entries()) difference |= byte ^ (right[index] ?? 0);
  return difference === 0;
}
