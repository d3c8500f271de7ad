import { createHmac } from 'node:crypto';
import { type LogGrant, readLogToken, signLogToken } from '@caisson/contracts/ci/log-token';

/**
 * Tokens for one build, checked without a lookup. A log token opens the logs of its jobs, a runner token its source; they have the
 * same form and are signed with two secrets, so one cannot stand in for the other.
 */
export function signBuildToken(secret: string, grant: LogGrant): string {
  return signLogToken(grant, hmacWith(secret));
}

/** Id of the build of a genuine token that is not over at `nowMs`; otherwise null. */
export function verifyBuildToken(secret: string, token: string, nowMs: number): string | null {
  return readLogToken(token, hmacWith(secret), nowMs)?.buildId ?? null;
}

function hmacWith(secret: string) {
  return (text: string) => createHmac('sha256', secret).update(text).digest();
}
