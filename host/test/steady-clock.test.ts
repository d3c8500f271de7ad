import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunMessage } from '@caisson/contracts/host-api';
import { afterEach, expect, test, vi } from 'vitest';
import { waitFor } from '../cgroup-capsule.ts';
import { createDiskWatch } from '../disk-watch.ts';
import { openScriptedHost } from './scripted-host.ts';
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
  const counted = Promise.withResolvers<void>();
  const processes = async () => {
    setClockBy(jumpMs);
    counted.resolve();
    return [];
  };
  const watched = await createDiskWatch({ intervalMs: 1 }).watch({ directory, processes }, 2 ** 20);
  await counted.promise;
  await writeFile(join(directory, 'large'), Buffer.alloc(2 ** 21));
  setClockBy(jumpMs);
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

test.for([-hourMs, 0, hourMs])(
  'a run taken up after the clock was set by %d ms keeps its time limit',
  async (jumpMs) => {
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
    await second.command.followed;
    vi.advanceTimersByTime(19_000);
    expect(second.command.signals).toEqual([]);
    vi.advanceTimersByTime(2_000);
    await vi.waitFor(() => expect(second.command.signals).toEqual([15]));
    second.command.end({ exitCode: 143, signal: 15, timedOut: false });
    expect(await finalOf(second.host.watch(new AbortController().signal))).toMatchObject({
      result: { outcome: 'timed_out' },
    });
    await second.host.close({ end: false });
  },
);

async function finalOf(messages: AsyncIterable<RunMessage>): Promise<RunMessage | undefined> {
  for await (const message of messages) if (message.kind === 'finished') return message;
  return undefined;
}
