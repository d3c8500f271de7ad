import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { memoryKillsIn } from './cgroup-capsule.ts';
import type { GuestLink } from './guest-link.ts';

/** The agent's own program; the disk need not have one. */
const agentProgram = '/proc/1/exe';
const syncTimeoutMs = 60_000;
const holdTimeoutMs = 20_000;
const answerTimeoutMs = 2_000;
const eventsBytesMax = 4_096;

/** Runs a command of the agent's own program to its end; throws when it fails or takes too long. */
export async function runAgentProgram(guest: GuestLink, words: readonly string[], timeoutMs: number): Promise<void> {
  const exitCode = await exitOfAgentProgram(guest, words, timeoutMs);
  if (exitCode !== 0) throw new Error(`it ended with ${exitCode}`);
}

function exitOfAgentProgram(guest: GuestLink, words: readonly string[], timeoutMs: number): Promise<number> {
  const run = async () => {
    const process = await guest.exec({ argv: [agentProgram, ...words], env: {}, cwd: '/', timeoutMs });
    const { exitCode } = await process.exit;
    process.forget();
    return exitCode;
  };
  return within(run(), timeoutMs);
}

/**
 * Has everything written out to the machine's disk, as a disk that is kept needs it. Throws `snapshot_failed` when the guest does not
 * do it: a disk without its last writes must not pass for whole.
 */
export async function syncGuest(guest: GuestLink): Promise<void> {
  await runAgentProgram(guest, ['sync'], syncTimeoutMs).catch((cause: unknown) => {
    throw new AppError('snapshot_failed', `the machine could not write out its disk: ${cause}`, { cause });
  });
}

/**
 * Makes every program of the machine stand, until its agent hears an identity: what is cloned from here on runs nothing before it is a
 * machine of its own. Throws `snapshot_failed` when they do not stand within five seconds.
 */
export async function holdGuest(guest: GuestLink): Promise<void> {
  await runAgentProgram(guest, ['hold'], holdTimeoutMs).catch((cause: unknown) => {
    throw new AppError('snapshot_failed', `the programs of the machine could not be made to stand: ${cause}`, {
      cause,
    });
  });
}

/** How much the guest's kernel has killed for want of memory; 0 when the guest does not say. */
export async function countMemoryKills(guest: GuestLink): Promise<number> {
  const read = async () => {
    let text = '';
    for await (const bytes of guest.readFile('/sys/fs/cgroup/capsule/memory.events')) {
      text += Buffer.from(bytes).toString('latin1');
      if (text.length > eventsBytesMax) break;
    }
    return memoryKillsIn(text);
  };
  return within(read(), answerTimeoutMs).catch(() => 0);
}

/** Whether a sixty-fourth of the machine's disk or less is free; false when the guest does not say. */
export async function isGuestDiskFull(guest: GuestLink): Promise<boolean> {
  return (await exitOfAgentProgram(guest, ['full'], answerTimeoutMs).catch(() => null)) === 0;
}

/** A guest that is frozen, or hostile, may never answer. */
async function within<Result>(work: Promise<Result>, timeoutMs: number): Promise<Result> {
  const limit = new AbortController();
  const tooLong = delay(timeoutMs, undefined, { signal: limit.signal, ref: false }).then(() => {
    throw new Error(`no answer within ${timeoutMs} ms`);
  });
  try {
    return await Promise.race([work, tooLong]);
  } finally {
    tooLong.catch(() => {});
    work.catch(() => {});
    limit.abort();
  }
}
