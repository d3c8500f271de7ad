import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { startPlane } from './crash-plane.ts';
import { openScenario } from './crash-scenario.ts';

// Each kill takes a few seconds of two processes, mostly of waiting.
const atOnce = 6;
const timeoutMs = 120_000;
/** Points that are passed at every turn are tried at several. */
const laterHits: Readonly<Record<string, readonly number[]>> = {
  'change.written': [4, 9],
  'change.committed': [4, 9],
  'messages.stored': [4, 9],
  'messages.acknowledged': [5],
  'place.committed': [3],
  'dispatch.told': [3],
};

test.each(await allCrashes())(
  'a control plane killed at $point (time $hit) loses and repeats nothing',
  {
    concurrent: true,
    timeout: timeoutMs,
  },
  async (crashAt) => {
    await oneOfFew(async () => {
      const scenario = await openScenario();
      try {
        const doomed = await startPlane({ ...scenario.settings, crashAt });
        await scenario.drive(doomed);
        // How often a point is passed depends on what comes in together; only the first time is certain to come.
        if (crashAt.hit > 1) await doomed.kill();
        expect(await doomed.ended).toBe('SIGKILL');
        const next = await startPlane({ ...scenario.settings, crashAt: null });
        try {
          await scenario.drive(next);
          await scenario.check();
        } finally {
          await next.kill();
        }
      } finally {
        await scenario.close();
      }
    });
  },
);

/** Every point in the source, so that none is forgotten. */
async function allCrashes(): Promise<readonly { point: string; hit: number }[]> {
  const engineUrl = new URL('../engine/', import.meta.url);
  const files = (await readdir(engineUrl)).filter((name) => name.endsWith('.ts'));
  const texts = await Promise.all(files.map((name) => readFile(new URL(name, engineUrl), 'utf8')));
  const points = texts.flatMap((text) => [...text.matchAll(/crashPoint\('([^']+)'\)/g)].map(([, name]) => name ?? ''));
  return points.toSorted().flatMap((point) => [1, ...(laterHits[point] ?? [])].map((hit) => ({ point, hit })));
}

const waiting: (() => void)[] = [];
let running = 0;

async function oneOfFew(work: () => Promise<void>): Promise<void> {
  if (running >= atOnce) await new Promise<void>((resolve) => waiting.push(resolve));
  running += 1;
  try {
    await work();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}
