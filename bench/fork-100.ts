import { createLayerStore } from '../host/layer-disk.ts';
import { type Capsules, capsulesNote, needsRoot, runInside } from './capsules.ts';
import { openMachines } from './machines.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples, sample, timeAllMs } from './statistics.ts';

const [allName, runcName] = ['all of them', 'runc run, as many at once'];

/** Many capsules that all start where one ended. */
export const forkMany: Row = {
  id: 'fork-100',
  title: 'fork 100 capsules from one sealed disk, all answering',
  goals: [
    {
      ...{ series: allName, figure: 'p50', bound: '≤', limit: 1_000 },
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
  const { capsules, runc, podman, why } = await openMachines(opened);
  const [all, each, runcAll, podmanAll] = [noSamples(), noSamples(), noSamples(), noSamples()];
  const layers = await sealedDisk(capsules);
  for (let round = 0; round < (bench.isQuick ? 1 : 5) && !bench.signal.aborted; round++) {
    const ids = Array.from({ length: forks }, (_, index) => `f${round}-${index}`);
    const failuresBefore = each.failures;
    await sample(all, async () => {
      const ms = await timeAllMs(ids.map((id) => () => forkOne(capsules, { id, layers }, each)));
      if (each.failures > failuresBefore) throw new Error('not all forks answered');
      return ms;
    });
    await Promise.all(ids.map((id) => capsules.driver.destroy(id)));
    await sample(runcAll, () => timeAllMs(ids.map((id) => () => runc.run(id))));
    if (podman === null || round >= podmanRounds) continue;
    await sample(podmanAll, () => timeAllMs(ids.map((id) => () => podman.run(id, ['/bin/true']))));
  }
  return {
    series: [
      { name: allName, role: 'ours', unit: 'ms', samples: all },
      { name: 'each, from the common start', role: 'part', unit: 'ms', samples: each },
      { name: runcName, role: 'baseline', unit: 'ms', samples: runcAll },
      ...(podman
        ? [{ name: 'podman run, as many at once', role: 'baseline', unit: 'ms', samples: podmanAll } as const]
        : []),
    ],
    notes: [
      capsulesNote,
      `${forks} forks of one sealed disk. A fork answers when it has read the file its parent wrote. All are asked for at the same moment.`,
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
