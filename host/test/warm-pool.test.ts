import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createWarmPool, type WarmPool } from '../warm-pool.ts';

interface Kind {
  readonly name: string;
  readonly isSpecial?: boolean;
}

interface Item {
  readonly of: string;
  readonly ended: PromiseWithResolvers<void>;
}

const common = { name: 'common' };
const special = (name: string): Kind => ({ name, isSpecial: true });

describe('a warm pool', () => {
  let pool: WarmPool<Kind, Item>;
  let aheadMs = 0;
  let started: string[] = [];
  let items: Item[] = [];
  let removed: string[] = [];
  let failing = new Set<string>();
  let gone = new Set<string>();

  function open(max: number): void {
    pool = createWarmPool<Kind, Item>({
      ...{ max, least: 0, kinds: [], nameOf: ({ name }) => name },
      async start({ name }) {
        started.push(name);
        if (failing.has(name)) throw new Error('it cannot be started');
        const item = { of: name, ended: Promise.withResolvers<void>() };
        items.push(item);
        return item;
      },
      remove: async ({ of }) => void removed.push(of),
      isAlive: async () => true,
      ended: ({ ended }) => ended.promise,
      isSpecial: (kind) => kind.isSpecial === true,
      isPossible: async ({ name }) => !gone.has(name),
    });
  }

  /** Asks for so many at once, some seconds after whatever was before. */
  async function ask(kind: Kind, count = 1): Promise<readonly string[]> {
    aheadMs += 5_000;
    const taken = await Promise.all(Array.from({ length: count }, () => pool.take(kind)));
    await pool.filled();
    return taken.map((item) => item?.of ?? 'nothing');
  }

  beforeEach(() => {
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + aheadMs);
    [started, items, removed, failing, gone] = [[], [], [], new Set(), new Set()];
  });
  afterEach(async () => {
    await pool.close();
    vi.restoreAllMocks();
  });

  it('keeps as many as were asked for at a time, lately', async () => {
    open(8);
    expect(await ask(common, 3)).toEqual(['nothing', 'nothing', 'nothing']);
    expect(await pool.filled(common)).toBe(3);
    expect(await ask(common)).toEqual(['common']);
    expect(await pool.filled()).toBe(3);
    aheadMs += 300_000;
    await ask({ name: 'other' });
    expect(await pool.filled(common)).toBe(0);
    expect(removed).toEqual(['common', 'common', 'common']);
  });

  it('keeps of a special kind only when it is asked for again, and then before all others', async () => {
    open(2);
    await ask(common, 2);
    await ask(special('a'), 2);
    expect([await pool.filled(common), await pool.filled(special('a'))]).toEqual([2, 0]);
    expect(await ask(special('a'))).toEqual(['nothing']);
    expect([await pool.filled(common), await pool.filled(special('a'))]).toEqual([0, 2]);
    // There is not room for all: what was asked for last goes first.
    await ask(special('b'));
    await ask(special('b'));
    expect([await pool.filled(special('a')), await pool.filled(special('b'))]).toEqual([1, 1]);
    aheadMs += 300_000;
    await ask(special('a'));
    await ask(common);
    expect([await pool.filled(special('a')), await pool.filled(common)]).toEqual([0, 1]);
  });

  it('tries what cannot be started, or ends by itself, again when it is asked for, and keeps others meanwhile', async () => {
    open(4);
    failing.add('broken');
    await ask({ name: 'broken' });
    await ask(common);
    expect(started).toEqual(['broken', 'common']);
    expect(await ask({ name: 'broken' })).toEqual(['nothing']);
    expect(started).toEqual(['broken', 'common', 'broken']);
    items[0]?.ended.resolve();
    await expect.poll(() => removed).toEqual(['common']);
    expect(await pool.filled()).toBe(0);
    expect(await ask(common)).toEqual(['nothing']);
    expect(await pool.filled()).toBe(1);
  });

  it('keeps nothing of what nobody can ask for any more', async () => {
    open(4);
    for (const kind of [common, special('a'), special('a')]) await ask(kind);
    expect(await pool.filled()).toBe(2);
    gone.add('a');
    await ask(common);
    expect([await pool.filled(special('a')), removed]).toEqual([0, ['a']]);
  });

  it('gives nothing when it is to keep nothing', async () => {
    open(0);
    expect(await ask(common, 2)).toEqual(['nothing', 'nothing']);
    expect([started, await pool.filled()]).toEqual([[], 0]);
  });
});
