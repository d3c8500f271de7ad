import { randomUUID } from 'node:crypto';
import { appendFile, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createJournal, openJournal } from '../run-journal.ts';
import { testAssignment } from './run-assignment.ts';
import { tempDir } from './temp-dir.ts';

const { leaseId } = testAssignment;
const text = (bytes: string) => ({ kind: 'output', stream: 'stdout', bytes: Buffer.from(bytes) }) as const;

test('a journal gives back what was written, after a restart too', async () => {
  const runsDir = await tempDir();
  const first = await createJournal(runsDir, testAssignment);
  await first.append({ kind: 'started' }, { processId: 1 });
  await first.append(text('hello'), { guestOffset: 5 });
  await first.close();

  const journal = await openJournal(runsDir, leaseId);
  const { records, position } = await journal.read(0, 1_000_000);
  expect(journal).toMatchObject({ assignment: testAssignment, lastSeq: 2, isFinished: false, size: position });
  expect(
    records.map(({ seq, event, processId, guestOffset }) => ({ seq, kind: event.kind, processId, guestOffset })),
  ).toEqual([
    { seq: 1, kind: 'started', processId: 1, guestOffset: undefined },
    { seq: 2, kind: 'output', processId: undefined, guestOffset: 5 },
  ]);
  expect(await journal.append({ kind: 'finished', result: { outcome: 'canceled' } })).toBe(3);
  expect(journal.isFinished).toBe(true);
  await journal.remove();
  expect(await readdir(runsDir)).toEqual([]);
});

test('a tail torn at any byte is cut off and written again', async () => {
  const runsDir = await tempDir();
  const journal = await createJournal(runsDir, testAssignment);
  await journal.append(text('whole'));
  const wholeBytes = journal.size;
  await journal.append(text('torn'));
  const allBytes = journal.size;
  await journal.close();
  const path = join(runsDir, leaseId, 'messages');
  const messages = await readFile(path);
  for (let cut = wholeBytes; cut < allBytes; cut += 1) {
    await truncate(path, 0);
    await appendFile(path, messages.subarray(0, cut));
    const again = await openJournal(runsDir, leaseId);
    expect(again).toMatchObject({ lastSeq: 1, size: wholeBytes });
    expect(await again.append(text('again'))).toBe(2);
    expect((await again.read(0, 1_000_000)).records).toHaveLength(2);
    await again.close();
  }
});

test('a record larger than the window is read whole, and only it', async () => {
  const journal = await createJournal(await tempDir(), testAssignment);
  await journal.append(text('x'.repeat(100_000)));
  await journal.append(text('y'.repeat(100_000)));
  const first = await journal.read(0, 1_000);
  expect(first.records.map(({ seq }) => seq)).toEqual([1]);
  const second = await journal.read(first.position, 1_000);
  expect(second.records.map(({ seq }) => seq)).toEqual([2]);
  expect(second.position).toBe(journal.size);
  expect(await journal.read(second.position, 1_000)).toEqual({ records: [], position: journal.size });
  await journal.close();
});

test('appends at the same time follow each other', async () => {
  const journal = await createJournal(await tempDir(), testAssignment);
  const numbers = await Promise.all(Array.from({ length: 50 }, (_, index) => journal.append(text(String(index)))));
  expect(numbers).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
  const { records } = await journal.read(0, 1_000_000);
  expect(records.map(({ event }) => event.kind === 'output' && Buffer.from(event.bytes).toString())).toEqual(
    numbers.map((seq) => String(seq - 1)),
  );
  await journal.close();
});

test('what was dropped is remembered without a record', async () => {
  const runsDir = await tempDir();
  const journal = await createJournal(runsDir, testAssignment);
  await journal.drop(1_000);
  await journal.drop(2_000);
  await journal.close();
  const again = await openJournal(runsDir, leaseId);
  expect(again).toMatchObject({ droppedTo: 2_000, size: 0, lastSeq: 0 });
  await again.close();
});

test('notes outlive the process and are told to nobody', async () => {
  const runsDir = await tempDir();
  const first = await createJournal(runsDir, testAssignment);
  expect(first.noted).toEqual({ isBegun: false, cancelReason: null, result: null });
  await first.note({ kind: 'beginning' });
  await first.append({ kind: 'started' }, { processId: 1 });
  await first.note({ kind: 'canceling', reason: 'timed_out' });
  await first.note({ kind: 'ending', result: { outcome: 'timed_out' } });
  await first.close();

  const journal = await openJournal(runsDir, leaseId);
  expect(journal.noted).toEqual({ isBegun: true, cancelReason: 'timed_out', result: { outcome: 'timed_out' } });
  const { records, position } = await journal.read(0, 1_000_000);
  expect(records.map(({ seq, event }) => [seq, event.kind])).toEqual([[1, 'started']]);
  expect(position).toBe(journal.size);
  await journal.close();
});

test('a journal of an earlier boot of the machine is not taken up, one of an earlier version is', async () => {
  const runsDir = await tempDir();
  await (await createJournal(runsDir, testAssignment)).close();
  const bootPath = join(runsDir, leaseId, 'boot');
  await writeFile(bootPath, randomUUID());
  await expect(openJournal(runsDir, leaseId)).rejects.toThrow('before the machine started anew');
  await rm(bootPath);
  await (await openJournal(runsDir, leaseId)).close();
});
