import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { buildAgent } from '../guest-binary.ts';
import { connectGuest } from '../guest-channel.ts';
import type { GuestLink } from '../guest-link.ts';
import type { GuestPipes } from '../guest-pipes.ts';
import { tempDir } from './temp-dir.ts';

/** An agent with a pair of pipes, as a gVisor capsule has it, but outside of any. */
async function startAgent(): Promise<{ readonly pipes: GuestPipes; readonly agent: ChildProcess }> {
  const directory = await tempDir();
  const pipes = { toGuest: join(directory, 'in'), fromGuest: join(directory, 'out') };
  await promisify(execFile)('mkfifo', [pipes.toGuest, pipes.fromGuest]);
  const streams = [pipes.toGuest, pipes.fromGuest].map((path) => openSync(path, constants.O_RDWR));
  const agent = spawn(await buildAgent(), ['serve-pipes'], { stdio: [...streams, 'inherit'] });
  for (const stream of streams) closeSync(stream);
  onTestFinished(async () => {
    if (agent.exitCode === null && agent.signalCode === null) await killed(agent);
  });
  return { pipes, agent };
}

async function killed(agent: ChildProcess): Promise<void> {
  agent.kill('SIGKILL');
  await once(agent, 'exit');
}

async function said(guest: GuestLink, script: string): Promise<number> {
  const process = await guest.exec({ argv: ['/bin/sh', '-c', script], env: { PATH: '/bin:/usr/bin' }, cwd: '/' });
  let bytes = 0;
  for await (const { bytes: piece, endOffset } of process.output()) {
    bytes += piece.length;
    process.acknowledge(endOffset);
  }
  await process.exit;
  process.forget();
  return bytes;
}

test('an agent answers over pipes, one host after the other, until it is gone', async () => {
  const { pipes, agent } = await startAgent();
  const first = await connectGuest(pipes);
  expect(await said(first, 'head -c 3000000 /dev/zero')).toBe(3_000_000);
  // Left in the middle of an output, as by a host that is killed.
  const endless = await first.exec({ argv: ['/bin/cat', '/dev/zero'], env: {}, cwd: '/', processId: 7 });
  for await (const _ of endless.output()) break;
  first.close();

  const second = await connectGuest(pipes);
  const process = await second.attach(7, 0);
  process?.kill(9);
  expect(await said(second, 'echo hello')).toBe(6);
  await killed(agent);
  expect(await second.closed).toBe('The agent is gone.');
});

test('nobody at the other end is told at once', async () => {
  const { pipes, agent } = await startAgent();
  await killed(agent);
  await expect(connectGuest(pipes)).rejects.toMatchObject({ code: 'guest_lost', cause: { code: 'ENXIO' } });
});
