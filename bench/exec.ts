import { capsulesNote, needsRoot, runInside } from './capsules.ts';
import { openHttpDoor } from './http-door.ts';
import { openMachines } from './machines.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, sample, timeMs } from './statistics.ts';

const httpName = 'over HTTP/2, one connection';

/** A command in a capsule that runs already. */
export const exec: Row = {
  id: 'exec',
  title: 'exec round trip in a running capsule',
  goals: [{ series: httpName, figure: 'p50', bound: '≤', limit: 4 }],
  obstacle: needsRoot,
  measure,
};

const argv = ['/bin/echo', 'done'] as const;

async function measure(bench: Bench): Promise<Measured> {
  await using opened = new AsyncDisposableStack();
  const { capsules, runc, podman, why } = await openMachines(opened);
  const [http, link, ping] = [noSamples(), noSamples(), noSamples()];
  const [runcExec, podmanExec] = [noSamples(), noSamples()];
  const machine = await capsules.driver.create(capsules.spec('exec'));
  const door = await openHttpDoor(machine);
  opened.defer(() => door.end());
  await runc.start('exec');
  await podman?.start('exec');
  for (let index = 0; index < 5; index++) await door.exec(argv);
  for (let index = 0; index < bench.count(300) && !bench.signal.aborted; index++) {
    await sample(http, () => timeAnswer(() => door.exec(argv)));
    await sample(link, () => timeAnswer(() => runInside(machine, argv)));
    await sample(ping, () => machine.guest.ping());
    if (index % 3 === 0) await sample(runcExec, () => timeAnswer(() => runc.exec('exec', argv)));
    if (podman && index % 3 === 0) await sample(podmanExec, () => timeAnswer(() => podman.exec('exec', argv)));
  }
  return {
    series: [
      { name: httpName, role: 'ours', unit: 'ms', samples: http },
      { name: 'of it: over the guest link, in the process of the host', role: 'part', unit: 'ms', samples: link },
      { name: 'of that: a ping to the agent', role: 'part', unit: 'ms', samples: ping },
      { name: 'runc exec', role: 'baseline', unit: 'ms', samples: runcExec },
      ...(podman ? [{ name: 'podman exec', role: 'baseline', unit: 'ms', samples: podmanExec } as const] : []),
    ],
    notes: [
      capsulesNote,
      'One call is `echo`, from the request to its exit status and its output, which is compared. Caisson has no door for capsules yet: the HTTP/2 server is the bench’s own (`bench/http-door.ts`), in front of the guest link of the container driver, without signing in.',
      ...(why === null ? [] : [why]),
    ],
  };
}

async function timeAnswer(call: () => Promise<string>): Promise<number> {
  let said = '';
  const ms = await timeMs(async () => {
    said = await call();
  });
  if (said !== 'done\n') throw new Error(`the answer was ${JSON.stringify(said)}`);
  return ms;
}
