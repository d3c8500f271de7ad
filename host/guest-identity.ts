import { randomBytes } from 'node:crypto';

/** Bytes of entropy every clone gets, from the host's own random numbers. */
const entropyBytes = 64;

/**
 * What makes a clone a machine of its own: the time, random bytes nobody else has, and words as at boot (`hostname=…`). The payload of
 * an identity frame; each call gives other random bytes.
 */
export function encodeIdentity(words: readonly string[], nowMs: number): Buffer {
  const clock = Buffer.alloc(8);
  clock.writeBigUInt64LE(BigInt(Math.round(nowMs * 1_000)) * 1_000n);
  return Buffer.concat([clock, randomBytes(entropyBytes), Buffer.from(words.map((word) => `${word}\0`).join(''))]);
}
