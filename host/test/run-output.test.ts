import { expect, test } from 'vitest';
import type { GuestOutput } from '../guest-link.ts';
import { createJournal, type RunJournal } from '../run-journal.ts';
import { journalOutput } from '../run-output.ts';
import { testAssignment } from './run-assignment.ts';
import { tempDir } from './temp-dir.ts';

/** What a command writes, piece by piece; remembers what was acknowledged and what the journal held at that moment. */
function scripted(journal: RunJournal, pieces: AsyncIterable<readonly [GuestOutput['stream'], string]>) {
  let endOffset = 0;
  const acknowledged: { offset: number; journalBytes: number }[] = [];
  return {
    acknowledged,
    acknowledge: (offset: number) => void acknowledged.push({ offset, journalBytes: journal.size }),
    async *output(): AsyncIterable<GuestOutput> {
      for await (const [stream, text] of pieces) {
        const bytes = Buffer.from(text);
        endOffset += bytes.length;
        yield { stream, bytes, endOffset };
      }
    },
  };
}

async function* of(...pieces: readonly (readonly [GuestOutput['stream'], string])[]) {
  yield* pieces;
}

async function textsOf(journal: RunJournal): Promise<string[]> {
  const { records } = await journal.read(0, 10_000_000);
  return records.map(({ event }) =>
    event.kind === 'output' ? `${event.stream} ${Buffer.from(event.bytes).toString()}` : event.kind,
  );
}

async function openJournal(maxOutputBytes = 1_000): Promise<RunJournal> {
  return createJournal(await tempDir(), { ...testAssignment, maxOutputBytes });
}

const options = { alreadyBytes: 0, isMarked: false, onRecord: () => {} };

test('the streams keep their order; neighbours of one stream become one record', async () => {
  const journal = await openJournal();
  const pieces = of(['stdout', 'a'], ['stdout', 'b'], ['stdout', 'c'], ['stderr', 'x'], ['stdout', 'd']);
  await journalOutput(journal, scripted(journal, pieces), options);
  // The first bytes go out alone, at once.
  expect(await textsOf(journal)).toEqual(['stdout a', 'stdout bc', 'stderr x', 'stdout d']);
});

test('the first bytes after a silence are in the journal before more come', async () => {
  const journal = await openJournal();
  const isSeen = Promise.withResolvers<void>();
  async function* pieces() {
    yield ['stdout', 'half a line'] as const;
    await isSeen.promise;
    yield ['stdout', ' and the rest'] as const;
  }
  await journalOutput(journal, scripted(journal, pieces()), { ...options, onRecord: isSeen.resolve });
  expect(await textsOf(journal)).toEqual(['stdout half a line', 'stdout  and the rest']);
});

test('only what is in the journal is acknowledged', async () => {
  const journal = await openJournal(1_000_000);
  const source = scripted(
    journal,
    of(['stdout', 'x'.repeat(300_000)], ['stderr', 'y'.repeat(300_000)], ['stdout', 'z']),
  );
  await journalOutput(journal, source, options);
  expect(source.acknowledged.at(-1)?.offset).toBe(600_001);
  for (const { offset, journalBytes } of source.acknowledged) expect(journalBytes).toBeGreaterThanOrEqual(offset);
});

test('output beyond the limit is dropped behind one marker and acknowledged, across restarts too', async () => {
  const journal = await openJournal(2 ** 20);
  const first = scripted(journal, of(['stdout', 'x'.repeat(2 ** 20 - 2)], ['stdout', 'abcd'], ['stderr', 'more']));
  await journalOutput(journal, first, options);
  expect((await textsOf(journal)).map((text) => text.slice(-60))).toEqual([
    `${'x'.repeat(60)}`,
    'stdout ab',
    expect.stringContaining("the rest of this job's output is dropped"),
  ]);
  const endOffset = 2 ** 20 + 6;
  expect(first.acknowledged.at(-1)?.offset).toBe(endOffset);
  expect(journal.droppedTo).toBe(endOffset);
  const { size } = journal;
  const second = scripted(journal, of(['stdout', 'even more']));
  await journalOutput(journal, second, { ...options, alreadyBytes: 2 ** 20, isMarked: true });
  expect(journal.size).toBe(size);
});

test('output up to the limit and not beyond is no overflow', async () => {
  const journal = await openJournal(4);
  await journalOutput(journal, scripted(journal, of(['stdout', 'abcd'])), options);
  expect(await textsOf(journal)).toEqual(['stdout abcd']);
});
