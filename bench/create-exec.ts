import { type Capsules, capsulesNote, needsRoot, openCapsules, runInside } from './capsules.ts';
import { openMachines } from './machines.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, type Samples, sample, timeMs } from './statistics.ts';

const [bareName, pooledName] = ['no pool, own loopback only', 'from a warm pool, own loopback only'];
const [runcName, podmanName] = ['runc run, rootfs mounted before', 'podman run --rm'];
const atOnce = 20;
const [concurrentName, aloneName] = [`${atOnce} at once, no pool`, 'one alone, no pool'];
const [pooledManyName, pooledAloneName] = [`${atOnce} at once from a warm pool`, 'one alone from a warm pool'];
const runcManyName = `runc run, ${atOnce} at once`;

const createName = 'of the first: create';
const whenMissed = (p50Of: (series: string) => string) =>
  `making the capsule takes ${p50Of(createName)}, and ${p50Of(runcName)} is what the runtime takes for a container without an overlay of its own, an agent and an answer`;

/** A capsule from nothing to the first answered command, one after the other. */
export const createExec: Row = {
  id: 'create-exec',
  title: 'create a capsule → first exec answered, serial',
  goals: [
    { series: bareName, figure: 'p50', bound: '≤', limit: 1.5, ofP50: runcName, whenMissed },
    { series: bareName, figure: 'p50', bound: '≤', limit: 1 / 5, ofP50: podmanName, whenMissed },
    { series: pooledName, figure: 'p50', bound: '≤', limit: 10 },
    { series: pooledName, figure: 'p50', bound: '≤', limit: 1 / 15, ofP50: podmanName },
  ],
  obstacle: needsRoot,
  measure: measureSerial,
};

/** The same, twenty at a time. */
export const createExecConcurrent: Row = {
  id: 'create-exec-20',
  title: 'create a capsule → first exec answered, 20 concurrent',
  goals: [
    {
      ...{ series: concurrentName, figure: 'p95', bound: '≤', limit: 10, ofP50: aloneName },
      whenMissed: (p50Of) =>
        `the starts share the processors: ${p50Of(runcManyName)} is the p50 of runc alone under the same load, ${p50Of(aloneName)} that of one capsule`,
    },
    {
      ...{ series: pooledManyName, figure: 'p95', bound: '≤', limit: 10, ofP50: pooledAloneName },
      whenMissed: (p50Of) =>
        `one alone takes ${p50Of(pooledAloneName)}, and ${p50Of(pooledManyName)} is the p50 of twenty, which share the processors`,
    },
  ],
  obstacle: needsRoot,
  measure: measureConcurrent,
};

async function measureSerial(bench: Bench): Promise<Measured> {
  await using opened = new AsyncDisposableStack();
  const { capsules, runc, podman, why } = await openMachines(opened, { networkPoolSize: 8, blankPoolSize: 0 });
  const pool = await openCapsules({ networkPoolSize: 8 });
  opened.defer(() => pool.end());
  const parts = { bare: noSamples(), create: noSamples(), exec: noSamples(), destroy: noSamples() };
  const pooled = { bare: noSamples(), create: noSamples(), exec: noSamples(), destroy: noSamples() };
  const [networked, pooledNetworked, runcRun, podmanRun] = [noSamples(), noSamples(), noSamples(), noSamples()];
  // Containers and namespaces are made and given back behind a capsule's back; the next must not pay for it.
  const settled = () =>
    Promise.all([capsules.driver.networkReady(), pool.driver.networkReady(), pool.driver.blanksReady()]);
  await settled();
  await warmUp(capsules, () => runc.run('warm'));
  // In turns, so that what disturbs one disturbs all.
  for (let index = 0; index < bench.count(100) && !bench.signal.aborted; index++) {
    await createOne(capsules, parts, { id: `bare${index}`, egress: 'none' });
    await sample(runcRun, () => timeMs(() => runc.run(`runc${index}`)));
    const own = { ...parts, bare: networked, create: noSamples(), exec: noSamples(), destroy: noSamples() };
    await createOne(capsules, own, { id: `net${index}`, egress: 'internet' });
    await settled();
    await createOne(pool, pooled, { id: `pool${index}`, egress: 'none' });
    await settled();
    await createOne(pool, { ...own, bare: pooledNetworked }, { id: `poolnet${index}`, egress: 'internet' });
    if (podman) await sample(podmanRun, () => timeMs(() => podman.run(`p${index}`, ['/bin/true'])));
    await settled();
  }
  return {
    series: [
      { name: bareName, role: 'ours', unit: 'ms', samples: parts.bare },
      { name: 'no pool, network', role: 'ours', unit: 'ms', samples: networked },
      { name: pooledName, role: 'ours', unit: 'ms', samples: pooled.bare },
      { name: 'from a warm pool, network', role: 'ours', unit: 'ms', samples: pooledNetworked },
      { name: createName, role: 'part', unit: 'ms', samples: parts.create },
      { name: 'of the first: exec of true', role: 'part', unit: 'ms', samples: parts.exec },
      { name: 'afterwards: destroy', role: 'part', unit: 'ms', samples: parts.destroy },
      { name: runcName, role: 'baseline', unit: 'ms', samples: runcRun },
      ...(podman ? [{ name: podmanName, role: 'baseline', unit: 'ms', samples: podmanRun } as const] : []),
    ],
    notes: [
      capsulesNote,
      'From a warm pool: a container that was started before it was known for what, as a host keeps some; the bench waits until they are ready, outside the time.',
      'Ours mounts a fresh overlay for each capsule and waits for the exit status of `true`; runc runs `true` on an overlay mounted once, under the same configuration.',
      ...(why === null ? [] : [why]),
    ],
  };
}

interface Parts {
  readonly bare: Samples;
  readonly create: Samples;
  readonly exec: Samples;
  readonly destroy: Samples;
}

async function createOne(
  { driver, spec }: Capsules,
  { bare, create, exec, destroy }: Parts,
  { id, egress }: { id: string; egress: 'none' | 'internet' },
): Promise<void> {
  await sample(bare, async () => {
    let execMs = 0;
    const createMs = await timeMs(async () => {
      const machine = await driver.create(spec(id, { egress }));
      execMs = await timeMs(() => runInside(machine, ['/bin/true']));
    });
    create.values.push(createMs - execMs);
    exec.values.push(execMs);
    return createMs;
  });
  await sample(destroy, () => timeMs(() => driver.destroy(id)));
}

async function warmUp({ driver, spec }: Capsules, baseline: () => Promise<void>): Promise<void> {
  for (const id of ['warm1', 'warm2', 'warm3']) {
    const machine = await driver.create(spec(id));
    await runInside(machine, ['/bin/true']);
    await machine.destroy();
  }
  await baseline();
}

async function measureConcurrent(bench: Bench): Promise<Measured> {
  await using opened = new AsyncDisposableStack();
  const { capsules, runc, podman, why } = await openMachines(opened, { blankPoolSize: 0 });
  const pool = await openCapsules();
  opened.defer(() => pool.end());
  const [alone, ours, pooledAlone, pooled] = [noSamples(), noSamples(), noSamples(), noSamples()];
  const [runcRun, podmanRun] = [noSamples(), noSamples()];
  const names = Array.from({ length: atOnce }, (_, index) => String(index));
  await warmUp(capsules, () => runc.run('warm'));
  // The pool learns how many are wanted at once.
  await createMany(pool, names, noSamples());
  for (let round = 0; round < bench.count(10) && !bench.signal.aborted; round++) {
    await createMany(capsules, ['alone'], alone);
    await createMany(capsules, names, ours);
    await pool.driver.blanksReady();
    await createMany(pool, ['alone'], pooledAlone);
    await pool.driver.blanksReady();
    await createMany(pool, names, pooled);
    await pool.driver.blanksReady();
    await Promise.all(names.map((name) => sample(runcRun, () => timeMs(() => runc.run(`r${round}-${name}`)))));
    if (!podman) continue;
    const podmanOnce = (name: string) => timeMs(() => podman.run(`p${round}-${name}`, ['/bin/true']));
    await Promise.all(names.map((name) => sample(podmanRun, () => podmanOnce(name))));
  }
  return {
    series: [
      { name: concurrentName, role: 'ours', unit: 'ms', samples: ours },
      { name: aloneName, role: 'part', unit: 'ms', samples: alone },
      { name: pooledManyName, role: 'ours', unit: 'ms', samples: pooled },
      { name: pooledAloneName, role: 'part', unit: 'ms', samples: pooledAlone },
      { name: runcManyName, role: 'baseline', unit: 'ms', samples: runcRun },
      ...(podman
        ? [{ name: 'podman run --rm, 20 at once', role: 'baseline', unit: 'ms', samples: podmanRun } as const]
        : []),
    ],
    notes: [
      capsulesNote,
      'Without a network of their own. From a warm pool: as many containers are ready as an earlier burst asked for; the bench waits until they are, outside the time.',
      ...(why === null ? [] : [why]),
    ],
  };
}

/** All at the same moment; they are removed afterwards. */
async function createMany({ driver, spec }: Capsules, names: readonly string[], samples: Samples): Promise<void> {
  const startOne = async (name: string) => void (await runInside(await driver.create(spec(name)), ['/bin/true']));
  await Promise.all(names.map((name) => sample(samples, () => timeMs(() => startOne(name)))));
  await Promise.all(names.map((name) => driver.destroy(name)));
}
