import { readFile } from 'node:fs/promises';
import { beforeAll, expect, test } from 'vitest';
import type { GuestLink } from '../../host/guest-link.ts';
import { finish, readUntil, runToEnd, shell } from './agent-fixture.ts';
import { describeAgents } from './agent-variants.ts';

/** Resolves when the process is gone or a zombie. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    const status = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null);
    if (status === null || /\) Z /.test(status)) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const pids = (text: string): number[] => text.trim().split(/\s+/).map(Number);

describeAgents('signals and ends', (agent) => {
  let link: GuestLink;
  beforeAll(async () => {
    link = await agent().connect();
  });

  test('reach the whole process group', async () => {
    const process = await link.exec(shell('sleep 600 & sleep 600 & echo $! $$; wait'));
    const { text } = await readUntil(process.output(), '\n');
    process.kill(15);
    expect(await process.exit).toEqual({ exitCode: 143, signal: 15, timedOut: false });
    await Promise.all(pids(text).map(gone));
  });

  test('can be caught', async () => {
    const process = await link.exec(shell('trap "echo caught; exit 5" USR1; echo ready; while :; do sleep 0.01; done'));
    const output = process.output();
    await readUntil(output, 'ready');
    process.kill(10);
    await readUntil(output, 'caught');
    expect((await process.exit).exitCode).toBe(5);
  });

  test('SIGTERM may be ignored, SIGKILL not', async () => {
    const process = await link.exec(shell('trap "" TERM; echo ready; while :; do sleep 0.05; echo on; done'));
    const output = process.output();
    await readUntil(output, 'ready');
    process.kill(15);
    await readUntil(output, 'on');
    await readUntil(output, 'on');
    process.kill(9);
    expect(await process.exit).toEqual({ exitCode: 137, signal: 9, timedOut: false });
  });

  test('are checked', async () => {
    const process = await link.exec(shell('sleep 600'));
    expect(() => process.kill(0)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
    expect(() => process.kill(65)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
    process.kill(9);
    await process.exit;
  });

  test('the time limit kills grandchildren too, those in groups of their own included', async () => {
    const line = 'trap "" TERM; set -m; sleep 600 & (sleep 600 & echo $! >&2; wait) & echo $! $$; wait; sleep 600';
    const process = await link.exec(shell(line, { timeoutMs: 300 }));
    const startedAt = performance.now();
    const { exit, stdout, stderr } = await finish(process);
    expect(exit).toEqual({ exitCode: 137, signal: 9, timedOut: true });
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    await Promise.all([...pids(stdout), ...pids(stderr)].map(gone));
  });

  test('an exit before the time limit is an ordinary one', async () => {
    const { exit } = await runToEnd(link, shell('exit 1', { timeoutMs: 60_000 }));
    expect(exit).toEqual({ exitCode: 1, signal: null, timedOut: false });
  });

  test('background processes that hold the output do not hold the exit', async () => {
    const process = await link.exec(shell('(sleep 600 & echo $!) ; echo done'));
    const startedAt = performance.now();
    const { stdout, exit } = await finish(process);
    expect(exit.exitCode).toBe(0);
    expect(stdout).toMatch(/^\d+\ndone\n$/);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    const cleanup = await link.exec(shell(`kill -9 ${pids(stdout)[0]}`));
    await cleanup.exit;
  });

  test('what a background process writes soon after the exit still arrives', async () => {
    const { stdout } = await runToEnd(link, shell('(sleep 0.03; echo late) & echo early'));
    expect(stdout).toBe('early\nlate\n');
  });

  test('a background process that writes long after the exit lives on', async () => {
    const { stdout } = await runToEnd(link, shell('(sleep 0.4; echo a; echo b; exec sleep 600) & echo $!'));
    const pid = pids(stdout)[0] ?? -1;
    const look = await runToEnd(link, shell(`sleep 0.5; tr '\\0' ' ' < /proc/${pid}/cmdline; kill -9 ${pid}`));
    expect(look.stdout).toBe('sleep 600 ');
  });

  test('all that the process wrote before its end arrives, however slowly it is read', async () => {
    const process = await link.exec(shell('head -c 700000 /dev/zero; (sleep 600 & echo $! >&2)'));
    let bytes = 0;
    let text = '';
    for await (const output of process.output()) {
      if (output.stream === 'stdout') bytes += output.bytes.length;
      else text += Buffer.from(output.bytes).toString();
      await link.ping();
      process.acknowledge(output.endOffset);
    }
    expect(bytes).toBe(700_000);
    const cleanup = await link.exec(shell(`kill -9 ${text}`));
    await cleanup.exit;
  });
});
