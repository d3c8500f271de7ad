import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunResult } from '@caisson/contracts/host-api';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { waitFor } from '../cgroup-capsule.ts';
import { createDiskWatch } from '../disk-watch.ts';
import { openScriptedHost, type ScriptedHost } from './scripted-host.ts';
import { tempDir } from './temp-dir.ts';

const hourMs = 3_600_000;

afterEach(() => void vi.useRealTimers());

/** The machine's clock is set by so much; a steady clock goes on. */
function setClockBy(ms: number): void {
  vi.setSystemTime(Date.now() + ms);
}

test.for([-hourMs, hourMs])('the disk of a capsule is limited while the clock is set by %d ms', async (jumpMs) => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const directory = await tempDir();
  const processes = async () => {
    setClockBy(jumpMs);
    return [];
  };
  const watched = await createDiskWatch({ intervalMs: 1 }).watch({ directory, processes }, 2 ** 20);
  // What somebody else writes makes it count, and wait for the count.
  await writeFile(join(await tempDir(), 'foreign'), Buffer.alloc(2 ** 23));
  await watched.check();
  setClockBy(jumpMs);
  await writeFile(join(directory, 'large'), Buffer.alloc(2 ** 21));
  expect((await watched.full).code).toBe('disk_full');
  watched.stop();
});

test('a wait neither ends early nor hangs while the clock is set', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  let looks = 0;
  const third = async () => {
    setClockBy(hourMs);
    looks += 1;
    return looks === 3;
  };
  await waitFor(third, { timeoutMs: 60_000, failure: 'too early' });
  const never = async () => {
    setClockBy(-hourMs);
    return false;
  };
  await expect(waitFor(never, { timeoutMs: 20, failure: 'the time is up' })).rejects.toThrow('the time is up');
});

const jumpsMs = [-hourMs, 0, hourMs];

test.for(jumpsMs)('a run taken up after the clock was set by %d ms may use all of its time', async (jumpMs) => {
  const { host, command } = await takenUpAfter40s(jumpMs);
  vi.advanceTimersByTime(19_000);
  command.end({ exitCode: 0, signal: null, timedOut: false });
  expect(await resultOf(host)).toMatchObject({ outcome: 'exited' });
  expect(command.signals).toEqual([]);
});

test.for(jumpsMs)('a run taken up after the clock was set by %d ms ends when its time is over', async (jumpMs) => {
  const { host, command } = await takenUpAfter40s(jumpMs);
  vi.advanceTimersByTime(21_000);
  await vi.waitFor(() => expect(command.signals).toEqual([15]));
  command.end({ exitCode: 143, signal: 15, timedOut: false });
  expect(await resultOf(host)).toEqual({ outcome: 'timed_out' });
});

/** A run of a minute whose first host ends after 20 s and whose second one comes 20 s later. */
async function takenUpAfter40s(jumpMs: number): Promise<ScriptedHost> {
  vi.useFakeTimers({ toFake: ['Date', 'hrtime', 'setTimeout', 'clearTimeout'] });
  const dataDir = await tempDir();
  const first = await openScriptedHost(dataDir);
  await first.startRun({ timeoutMs: 60_000 });
  await first.command.followed;
  vi.advanceTimersByTime(20_000);
  await first.host.close({ end: false });
  setClockBy(jumpMs);
  vi.advanceTimersByTime(20_000);
  const second = await openScriptedHost(dataDir, { isRunning: true });
  onTestFinished(() => second.host.close({ end: false }));
  await second.command.followed;
  return second;
}

async function resultOf({ watch }: ScriptedHost['host']): Promise<RunResult | undefined> {
  for await (const message of watch(new AbortController().signal)) {
    if (message.kind === 'finished') return message.result;
  }
  return undefined;
}
