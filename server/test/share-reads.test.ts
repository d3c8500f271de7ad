import { expect, test } from 'vitest';
import { shareReads } from '../doors/ci/share-reads.ts';

/** Reads that are answered by hand, in the order they were begun. */
function handAnswered() {
  const begun: { key: string; answer: PromiseWithResolvers<string> }[] = [];
  const read = shareReads((key: string) => {
    const answer = Promise.withResolvers<string>();
    begun.push({ key, answer });
    return answer.promise;
  });
  const keys = () => begun.map(({ key }) => key).join(' ');
  return { read, keys, answer: (index: number) => begun[index]?.answer };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test('whoever asks while a read runs gets the next one, all of them the same', async () => {
  const { read, keys, answer } = handAnswered();
  const first = read('a');
  const late = [read('a'), read('a'), read('a')];
  expect(keys()).toBe('a');
  answer(0)?.resolve('old');
  expect(await first).toBe('old');
  await settled();
  expect(keys()).toBe('a a');
  const later = read('a');
  answer(1)?.resolve('new');
  expect(await Promise.all(late)).toEqual(['new', 'new', 'new']);
  await settled();
  answer(2)?.resolve('newest');
  expect(await later).toBe('newest');
  await settled();
  void read('a');
  expect(keys()).toBe('a a a a');
});

test('different questions do not wait for each other', async () => {
  const { read, keys, answer } = handAnswered();
  void read('a');
  const other = read('b');
  answer(1)?.resolve('b');
  expect(await other).toBe('b');
  expect(keys()).toBe('a b');
});

test('a failed read fails for those who share it, and no others', async () => {
  const { read, answer } = handAnswered();
  const first = read('a');
  const second = read('a');
  answer(0)?.reject(new Error('away'));
  await expect(first).rejects.toThrow('away');
  await settled();
  answer(1)?.resolve('there');
  expect(await second).toBe('there');
});
