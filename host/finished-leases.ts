import { type FileHandle, open, readFile } from 'node:fs/promises';

const kept = 10_000;
/** `<number of 12 digits> <lease id>\n`: all slots have one size. */
const slotBytes = 50;
const slotPattern = /^(\d{12}) ([0-9a-f-]{36})$/;

/** The leases a host has brought to their end last. None of them is begun again, however late it is handed over once more. */
export interface FinishedLeases {
  has(leaseId: string): boolean;
  /** Remembers one and forgets the oldest; resolves when the next host would know it too. */
  add(leaseId: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * A ring of slots in one file whose size never changes, so that a full disk is no reason to forget. What a slot holds besides a whole
 * line is skipped.
 */
export async function openFinishedLeases(path: string): Promise<FinishedLeases> {
  const text = await readFile(path, 'latin1').catch(() => '');
  const known = text
    .split('\n')
    .flatMap((line) => {
      const [, count, leaseId] = slotPattern.exec(line) ?? [];
      return leaseId === undefined ? [] : [{ count: Number(count), leaseId }];
    })
    .toSorted((a, b) => a.count - b.count);
  const file = await openRing(path, text.length);
  const ids = new Set(known.map(({ leaseId }) => leaseId));
  let nextCount = (known.at(-1)?.count ?? -1) + 1;
  return {
    has: (leaseId) => ids.has(leaseId),
    async add(leaseId) {
      if (ids.has(leaseId)) return;
      ids.add(leaseId);
      const [oldest] = ids;
      if (ids.size > kept && oldest !== undefined) ids.delete(oldest);
      const slot = Buffer.from(`${String(nextCount).padStart(12, '0')} ${leaseId}\n`);
      const position = (nextCount % kept) * slotBytes;
      nextCount += 1;
      await file.write(slot, 0, slot.length, position);
    },
    close: () => file.close(),
  };
}

/** With room for every slot from the beginning; on a full disk the room is asked for again with each slot. */
async function openRing(path: string, sizeBytes: number): Promise<FileHandle> {
  const file = await open(path, sizeBytes === 0 ? 'w+' : 'r+');
  const blank = Buffer.alloc(kept * slotBytes - sizeBytes, '\n');
  if (blank.length > 0) await file.write(blank, 0, blank.length, sizeBytes).catch(() => {});
  return file;
}
