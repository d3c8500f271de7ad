import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { capsulesNote, needsRoot, openCapsules, runInside } from './capsules.ts';
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

interface Process {
  readonly pid: number;
  readonly parentPid: number;
  readonly name: string;
}

async function processTree(rootPid: number): Promise<readonly Process[]> {
  const all = await allProcesses();
  const found = all.filter(({ pid }) => pid === rootPid);
  for (const parent of found) found.push(...all.filter(({ parentPid }) => parentPid === parent.pid));
  return found;
}

async function allProcesses(): Promise<readonly Process[]> {
  const pids = (await readdir('/proc')).map(Number).filter(Number.isInteger);
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')));
  return stats.flatMap((stat, index) => {
    const match = /^\d+ \((.*)\) \S (\d+)/s.exec(stat);
    return match === null ? [] : [{ pid: pids[index] ?? 0, parentPid: Number(match[2]), name: match[1] ?? '' }];
  });
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

async function sumMib(processes: readonly Process[]): Promise<number> {
  if (processes.length === 0) throw new Error('there is no such process');
  const sizes = await Promise.all(processes.map(({ pid }) => pssMib(pid)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function pssMib(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  const match = /^Pss:\s+(\d+) kB/m.exec(text);
  if (match === null) throw new Error(`process ${pid} has no memory`);
  return Number(match[1]) / 1024;
}
