import type { RunMessage } from '@caisson/contracts/host-api';
import { expect, test } from 'vitest';
import { makeMessageQueue } from '../engine/message-queue.ts';

const sizeBytes = 64 * 1024;

function output(leaseId: string, seq: number): RunMessage {
  return { leaseId, fence: 1, seq, atMs: 0, kind: 'output', stream: 'stdout', bytes: new Uint8Array(sizeBytes) };
}

test('a database that stores nothing stops the flow of messages, and all of them come in order when it does again', async () => {
  const gate = Promise.withResolvers<void>();
  const stored = new Map<string, number[]>();
  const queue = makeMessageQueue(
    async (batch) => {
      await gate.promise;
      for (const [leaseId, messages] of batch) {
        stored.set(leaseId, [...(stored.get(leaseId) ?? []), ...messages.map(({ seq }) => seq)]);
      }
    },
    () => {},
  );
  const leases = ['a', 'b', 'c'];
  const count = 200;
  let pushed = 0;
  const pushing = (async () => {
    for (let seq = 1; seq <= count; seq += 1) {
      for (const leaseId of leases) {
        await queue.push(output(leaseId, seq));
        pushed += 1;
      }
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(pushed * sizeBytes).toBeLessThan(9 * 2 ** 20);
  gate.resolve();
  await pushing;
  await queue.drain();
  const all = Array.from({ length: count }, (_, index) => index + 1);
  expect(stored).toEqual(new Map(leases.map((leaseId) => [leaseId, all])));
});

test('a failure is told to who pushes and who waits, and nothing is stored behind it', async () => {
  const stored: number[] = [];
  let failures = 0;
  const queue = makeMessageQueue(
    async (batch) => {
      if (stored.length > 0) throw new Error('no room');
      for (const messages of batch.values()) stored.push(...messages.map(({ seq }) => seq));
    },
    () => {
      failures += 1;
    },
  );
  await queue.push(output('a', 1));
  await queue.drain();
  await queue.push(output('a', 2));
  await expect(queue.drain()).rejects.toThrow('no room');
  await expect(queue.push(output('a', 3))).rejects.toThrow('no room');
  expect([stored, failures]).toEqual([[1], 1]);
});
