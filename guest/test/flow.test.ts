import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { GuestLink } from '../../host/guest-link.ts';
import { command, type RunningAgent, runToEnd, shell, startAgent } from './agent-fixture.ts';

let agent: RunningAgent;
let link: GuestLink;
beforeAll(async () => {
  agent = await startAgent();
  link = await agent.connect();
});
afterAll(() => agent.stop());

test('a gigabyte of output passes whole, in order, and neither side grows', async () => {
  const block = randomBytes(10_000_019); // no multiple of any buffer, so that each repetition lies elsewhere in them
  await writeFile(join(agent.directory, 'block'), block);
  const repeated = 'i=0; while [ $i -lt 100 ]; do cat block; i=$((i+1)); done';
  const process_ = await link.exec(shell(repeated, { cwd: agent.directory }));
  const agentKib: number[] = [];
  const hostBytes: number[] = [];
  let bytes = 0;
  for await (const output of process_.output()) {
    if (!isAt(block, bytes, output.bytes)) throw new Error(`wrong bytes before ${output.endOffset}`);
    bytes += output.bytes.length;
    process_.acknowledge(output.endOffset);
    if (Math.floor(bytes / 50_000_000) <= agentKib.length) continue;
    agentKib.push(await agent.residentKib());
    hostBytes.push(process.memoryUsage.rss());
  }
  expect(bytes).toBe(100 * block.length);
  expect((await process_.exit).exitCode).toBe(0);
  expect(Math.max(...agentKib)).toBeLessThan(2_048);
  const [first = 0, ...later] = hostBytes;
  expect(later.length).toBeGreaterThan(15);
  expect(Math.max(...later) - first).toBeLessThan(96 * 1024 * 1024); // garbage between two collections
});

/** Whether these bytes stand in the endless repetition of `block` from this offset on. */
function isAt(block: Buffer, offset: number, bytes: Uint8Array): boolean {
  const at = offset % block.length;
  const first = Math.min(bytes.length, block.length - at);
  return (
    block.compare(bytes, 0, first, at, at + first) === 0 &&
    block.compare(bytes, first, bytes.length, 0, bytes.length - first) === 0
  );
}

test('a writer nobody reads is stopped, not buffered', async () => {
  const process_ = await link.exec(
    shell('head -c 50000000 /dev/zero; echo wrote it all > written', { cwd: agent.directory }),
  );
  for (let round = 0; round < 50; round += 1) await link.ping();
  await expect(link.stat(`${agent.directory}/written`)).rejects.toMatchObject({ code: 'not_found' });
  expect(await agent.residentKib()).toBeLessThan(2_048);
  let bytes = 0;
  for await (const output of process_.output()) {
    bytes += output.bytes.length;
    process_.acknowledge(output.endOffset);
  }
  expect(bytes).toBe(50_000_000);
  expect((await link.stat(`${agent.directory}/written`)).type).toBe('file');
});

test('one process that is not read does not hold up another', async () => {
  const stuck = await link.exec(command(['cat', '/dev/zero']));
  expect((await runToEnd(link, shell('head -c 10000000 /dev/zero'))).endOffset).toBe(10_000_000);
  stuck.kill(9);
  stuck.forget();
});

test('alternating single bytes of both streams cost no more memory than their credit', async () => {
  const process_ = await link.exec(shell('i=0; while [ $i -lt 20000 ]; do printf o; printf e >&2; i=$((i+1)); done'));
  let text = '';
  for await (const output of process_.output()) {
    text += Buffer.from(output.bytes).toString();
    process_.acknowledge(output.endOffset);
  }
  expect(text.length).toBe(40_000);
  expect(text.replaceAll('o', '').length).toBe(20_000);
});

test('starting a process and learning of its end takes a few milliseconds', async () => {
  const times: number[] = [];
  for (let round = 0; round < 100; round += 1) {
    const startedAt = performance.now();
    const process_ = await link.exec(command(['/bin/true']));
    await process_.exit;
    times.push(performance.now() - startedAt);
    process_.forget();
  }
  const median = times.sort((a, b) => a - b)[50] ?? Number.NaN;
  console.log(`exec to exit of true, median: ${median.toFixed(2)} ms`);
  expect(median).toBeLessThan(20); // with everything else this machine may be doing
});
