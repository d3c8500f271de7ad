import { vi } from 'vitest';
import { describeCrashes } from './microvm-crashes.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** Of each scene those behind which something else is left; all of them are in `microvm-crash.long.test.ts`. */
const tried: Readonly<Record<string, readonly string[]>> = {
  create: ['microvm.claimed', 'microvm.runs'],
  fitted: ['microvm.fitted-taken'],
  snapshot: ['microvm.memory-saved'],
  suspend: ['microvm.memory-published', 'microvm.suspended', 'microvm.memory-loaded', 'microvm.woken'],
};

await describeCrashes(({ scene, point }) => tried[scene]?.includes(point) ?? false);
