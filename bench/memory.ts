import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { capsulesNote, needsRoot, openCapsules, runInside } from './capsules.ts';
import { allProcesses, type Process, processTree, pssMib, sumMib } from './process-memory.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, sample } from './statistics.ts';
import { openWarmCli } from './warm-cli.ts';

const [idleName, capsuleName] = ['idle, all processes', 'each idle capsule'];

/** What an installation that does nothing takes. */
export const memory: Row = {
  id: 'memory',
  title: 'memory: idle server + host + PostgreSQL; each idle capsule',
  goals: [
    { series: idleName, figure: 'max', bound: '<', limit: 250 },
    { series: capsuleName, figure: 'p50', bound: '<', limit: 4 },
  ],
  obstacle: needsRoot,
  measure,
};

const settleMs = 5_000;
const mib = 2 ** 20;

async function measure(bench: Bench): Promise<Measured> {
  const [whole, node, postgres] = [noSamples(), noSamples(), noSamples()];
  const cli = await openWarmCli(bench.say);
  try {
    const up = await cli.up();
    await delay(settleMs);
    for (let look = 0; look < 3; look++) {
      const processes = await processTree(up.pid);
      await sample(whole, () => sumMib(processes));
      await sample(node, () => sumMib(processes.filter(({ name }) => name !== 'postgres')));
      await sample(postgres, () => sumMib(processes.filter(({ name }) => name === 'postgres')));
      await delay(500);
    }
    await up.end();
  } finally {
    await cli.end();
  }
  return {
    series: [
      { name: idleName, role: 'ours', unit: 'MiB', samples: whole },
      { name: 'of it: control plane and host', role: 'part', unit: 'MiB', samples: node },
      { name: 'of it: PostgreSQL', role: 'part', unit: 'MiB', samples: postgres },
      ...(await capsuleSeries(bench)),
    ],
    notes: [
      `\`caisson up\` ${settleMs / 1000} s after its start. Proportional set size of the whole process tree: shared pages are divided among those who share them.`,
      `${capsulesNote} A capsule’s figure is what its control group is charged for (the agent, page cache and kernel memory), after one command.`,
    ],
  };
}

async function capsuleSeries(bench: Bench): Promise<Measured['series']> {
  const [charged, agent] = [noSamples(), noSamples()];
  const capsules = await openCapsules();
  try {
    for (let index = 0; index < bench.count(30); index++) {
      const machine = await capsules.driver.create(capsules.spec(`m${index}`));
      await runInside(machine, ['/bin/true']);
      await sample(charged, async () => (await machine.usage()).memoryBytes / mib);
    }
    for (const { pid } of await agents(capsules.dataDir)) await sample(agent, () => pssMib(pid));
  } finally {
    await capsules.end();
  }
  return [
    { name: capsuleName, role: 'ours', unit: 'MiB', samples: charged },
    { name: 'of it: the agent’s proportional set', role: 'part', unit: 'MiB', samples: agent },
  ];
}

/** The inits of the capsules made here: their agent is the only program of that name below this process’s data directory. */
async function agents(dataDir: string): Promise<readonly Process[]> {
  const found = [];
  for (const each of (await allProcesses()).filter(({ name }) => name === 'agent')) {
    const mounts = await readFile(`/proc/${each.pid}/mountinfo`, 'utf8').catch(() => '');
    if (mounts.includes(dataDir)) found.push(each);
  }
  return found;
}
