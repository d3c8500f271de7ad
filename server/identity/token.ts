import { createHash, randomBytes } from 'node:crypto';

const secretBytes = 32;

/** A fresh session token (43 base64url characters) or personal token (`hm_` in front). Shown once, stored as a hash. */
export function newToken(kind: 'session' | 'personal'): string {
  const secret = randomBytes(secretBytes).toString('base64url');
  return kind === 'personal' ? `hm_${secret}` : secret;
}

/** True for text that could be a token of ours; anything else need not be looked up. */
export function isTokenShaped(text: string): boolean {
  return /^(?:hm_)?[A-Za-z0-9_-]{43}$/.test(text);
}

/** Lower-hex sha256 of the whole token: what the database keeps. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
