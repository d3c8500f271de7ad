import { setTimeout as delay } from 'node:timers/promises';
import { crashPointsIn } from '@caisson/contracts/test/crash-points-in';
import { expect, test } from 'vitest';
import { startPlane } from './crash-plane.ts';
import { openScenario } from './crash-scenario.ts';

// Each kill takes a few seconds of two processes, mostly of waiting.
const atOnce = 6;
const timeoutMs = 120_000;
const lastMs = 30_000;
/** Points that are passed again for each build, job or message of the scenario, which cannot end before that many. */
const laterHits: Readonly<Record<string, readonly number[]>> = {
  'build.recorded': [4],
  'cancel.told': [2],
  'change.committed': [4, 9, 14],
  'change.written': [4, 9, 16, 24],
  'dispatch.told': [3, 9],
  'heartbeat.renewed': [2],
  'messages.acknowledged': [5],
  'messages.stored': [4, 9],
  'place.committed': [3, 6],
  'release.told': [2],
};

test.for(await allCrashes())(
  'a control plane killed at $point (time $hit) loses and repeats nothing',
  {
    concurrent: true,
    timeout: timeoutMs,
  },
  async (crashAt, { task }) => {
    await oneOfFew(async () => {
      const scenario = await openScenario();
      try {
        const doomed = await startPlane({ ...scenario.settings, crashAt });
        await scenario.drive(doomed);
        // Some of what follows a build is done behind its end.
        const end = await Promise.race([doomed.ended, delay(lastMs, `not there ${crashAt.hit} times`)]);
        expect(end, crashAt.point).toBe('SIGKILL');
        task.meta.killedAt = [crashAt];
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

/** Every point in the source, so that none is forgotten; those of `copy` need two hosts, see `crash-copies.test.ts`. */
async function allCrashes(): Promise<readonly { point: string; hit: number }[]> {
  const points = await crashPointsIn(new URL('../engine/', import.meta.url));
  return points
    .filter((point) => !point.startsWith('copy.'))
    .toSorted()
    .flatMap((point) => [1, ...(laterHits[point] ?? [])].map((hit) => ({ point, hit })));
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
