import { createLayerStore } from '../host/layer-disk.ts';
import { type Capsules, capsulesNote, needsRoot, openCapsules, runInside } from './capsules.ts';
import { openMachines } from './machines.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples, sample, timeAllMs, timeMs } from './statistics.ts';

const [warmName, coldName, runcName] = ['from a warm pool', 'no pool', 'runc run, as many at once'];

/** Many capsules that all start where one ended. */
export const forkMany: Row = {
  id: 'fork-100',
  title: 'fork 100 capsules from one sealed disk, all answering',
  goals: [
    {
      ...{ series: warmName, figure: 'p50', bound: '≤', limit: 1_000 },
      whenMissed: (p50Of) => `as many bare ‘runc run’ of ‘true’ take ${p50Of(runcName)} on the same processors`,
    },
  ],
  obstacle: needsRoot,
  measure,
};

/** A round takes podman many seconds. */
const podmanRounds = 2;
const marker = 'left by the parent';

async function measure(bench: Bench): Promise<Measured> {
  const forks = bench.count(100);
  await using opened = new AsyncDisposableStack();
  const { capsules, runc, podman, why } = await openMachines(opened, { blankPoolSize: 0 });
  const pool = await openCapsules();
  opened.defer(() => pool.end());
  const [warm, warmEach, cold, coldEach] = [noSamples(), noSamples(), noSamples(), noSamples()];
  const [warming, runcAll, podmanAll] = [noSamples(), noSamples(), noSamples()];
  let ready = 0;
  const [layers, poolLayers] = [await sealedDisk(capsules), await sealedDisk(pool)];
  // A first burst, which is not measured, tells the pool how many are wanted at once.
  await forkAll(pool, { ids: names('first', forks), layers: poolLayers, each: noSamples() });
  for (let round = 0; round < (bench.isQuick ? 1 : 5) && !bench.signal.aborted; round++) {
    const ids = names(`f${round}`, forks);
    await sample(warming, () =>
      timeMs(async () => {
        ready = await pool.driver.blanksReady();
      }),
    );
    await sample(warm, () => forkAll(pool, { ids, layers: poolLayers, each: warmEach }));
    await sample(cold, () => forkAll(capsules, { ids, layers, each: coldEach }));
    await sample(runcAll, () => timeAllMs(ids.map((id) => () => runc.run(id))));
    if (podman === null || round >= podmanRounds) continue;
    await sample(podmanAll, () => timeAllMs(ids.map((id) => () => podman.run(id, ['/bin/true']))));
  }
  return {
    series: [
      { name: warmName, role: 'ours', unit: 'ms', samples: warm },
      { name: 'each from the warm pool, from the common start', role: 'part', unit: 'ms', samples: warmEach },
      { name: coldName, role: 'ours', unit: 'ms', samples: cold },
      { name: 'each without a pool, from the common start', role: 'part', unit: 'ms', samples: coldEach },
      { name: 'before: until the pool is warm again', role: 'part', unit: 'ms', samples: warming },
      { name: runcName, role: 'baseline', unit: 'ms', samples: runcAll },
      ...(podman
        ? [{ name: 'podman run, as many at once', role: 'baseline', unit: 'ms', samples: podmanAll } as const]
        : []),
    ],
    notes: [
      capsulesNote,
      `${forks} forks of one sealed disk. A fork answers when it has read the file its parent wrote. All are asked for at the same moment.`,
      `From a warm pool: containers that were started before it was known for what; ${ready} were ready, after an earlier burst of as many forks. The bench waits until they are, outside the time.`,
      ...(why === null ? [] : [why]),
    ],
  };
}

async function sealedDisk({ driver, spec, dataDir, imageDir }: Capsules): Promise<readonly string[]> {
  const layers = await createLayerStore({ dataDir: `${dataDir}/store`, budgetBytes: 1e12 });
  const parent = await driver.create(spec('parent'));
  await runInside(parent, ['/bin/sh', '-c', `echo '${marker}' > /root/marker`]);
  const { upperDir } = await parent.stop();
  await layers.seal('sealed', upperDir, []);
  await parent.destroy();
  return [...layers.directories(['sealed']), imageDir];
}

function names(prefix: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}

/** Milliseconds until all have answered; afterwards they are removed. */
async function forkAll(
  capsules: Capsules,
  { ids, layers, each }: { ids: readonly string[]; layers: readonly string[]; each: Samples },
): Promise<number> {
  const failuresBefore = each.failures;
  const ms = await timeAllMs(ids.map((id) => () => forkOne(capsules, { id, layers }, each)));
  await Promise.all(ids.map((id) => capsules.driver.destroy(id)));
  if (each.failures > failuresBefore) throw new Error('not all forks answered');
  return ms;
}

async function forkOne(
  { driver, spec }: Capsules,
  { id, layers }: { id: string; layers: readonly string[] },
  each: Samples,
): Promise<void> {
  try {
    const startedMs = performance.now();
    const said = await runInside(await driver.create(spec(id, { layers })), ['/bin/cat', '/root/marker']);
    if (said !== `${marker}\n`) throw new Error(`the fork read ${JSON.stringify(said)}`);
    each.values.push(performance.now() - startedMs);
  } catch (error) {
    addFailure(each, error);
  }
}
