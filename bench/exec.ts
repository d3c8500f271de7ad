import { layoutOf, openInstallation } from '../host/container-layout.ts';
import { capsulesNote, needsRoot, openCapsules, runInside } from './capsules.ts';
import { runToEnd } from './program.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, sample, timeMs } from './statistics.ts';

const linkName = 'over the guest link';

/** A command in a capsule that runs already. */
export const exec: Row = {
  id: 'exec',
  title: 'exec round trip in a running capsule',
  goals: [{ series: linkName, figure: 'p50', bound: '≤', limit: 4 }],
  obstacle: needsRoot,
  measure,
};

async function measure(bench: Bench): Promise<Measured> {
  const capsules = await openCapsules();
  const [ours, ping, runcExec] = [noSamples(), noSamples(), noSamples()];
  try {
    const machine = await capsules.driver.create(capsules.spec('exec'));
    const layout = layoutOf(await openInstallation(capsules.dataDir, '/run/caisson'), 'exec');
    const runtime = capsules.driver.capabilities.runtime.split(' ')[0] ?? 'runc';
    const runc = [runtime, '--root', layout.runtimeDir, 'exec', 'exec', '/bin/true'];
    for (let index = 0; index < 5; index++) await runInside(machine, ['/bin/true']);
    for (let index = 0; index < bench.count(300) && !bench.signal.aborted; index++) {
      await sample(ours, () => timeMs(() => runInside(machine, ['/bin/true'])));
      await sample(ping, () => machine.guest.ping());
      if (index % 3 === 0) await sample(runcExec, () => timeMs(() => runToEnd(runc)));
    }
  } finally {
    await capsules.end();
  }
  return {
    series: [
      { name: linkName, role: 'ours', unit: 'ms', samples: ours },
      { name: 'a ping to the agent', role: 'part', unit: 'ms', samples: ping },
      { name: 'runc exec', role: 'baseline', unit: 'ms', samples: runcExec },
    ],
    notes: [capsulesNote, 'One call is `true` from the request to its exit status, in the process of the host.'],
  };
}
