import type { HostTraits, Scenario } from './scenario.ts';
import type { Shrunk } from './shrink.ts';
import type { Outcome } from './simulate.ts';
import type { Stats } from './world.ts';

/** The sum of many runs, as `npm run simulate -- --json` writes it. */
export interface SimulationSummary extends Stats {
  readonly seeds: number;
  readonly fromSeed: number;
  readonly violations: readonly { readonly seed: number; readonly invariant: string; readonly message: string }[];
  readonly seconds: number;
  /** Of the repository. */
  readonly commit: string;
  readonly machine: string;
}

/** Adds one run to the sum of those before. */
export function addStats(sum: Stats, stats: Stats): Stats {
  const keys = Object.keys(sum) as (keyof Stats)[];
  return Object.fromEntries(keys.map((key) => [key, sum[key] + stats[key]])) as unknown as Stats;
}

/** The smallest history that breaks the promise, for people. */
export function describeFailure(seed: number, { scenario, outcome, runs }: Shrunk): string {
  return [
    `Seed ${seed} breaks ${outcome.violation?.invariant}: ${outcome.violation?.message}`,
    `The smallest scenario found in ${runs} runs (repeat the whole one with: npm run simulate -- --seed ${seed}):`,
    ...describeScenario(scenario).map((line) => `  ${line}`),
    'What happens in it, by seconds:',
    ...outcome.lines,
  ].join('\n');
}

function describeScenario({ planes, hosts, builds, faults }: Scenario): readonly string[] {
  return [
    `${planes} control planes; hosts with room for ${hosts.map(describeHost).join(', ')}`,
    ...builds.flatMap(({ steps, ...build }) => [
      JSON.stringify(build),
      ...steps.map((step) => `  ${JSON.stringify(step)}`),
    ]),
    ...faults.map((fault) => JSON.stringify(fault)),
  ];
}

/** One line about a run that kept its promises. */
export function describeRun(seed: number, { stats, hash }: Outcome): string {
  const { events, jobs, crashes, leaseLosses } = stats;
  return `seed ${seed}: ${events} events, ${jobs} jobs, ${crashes} crashes, ${leaseLosses} leases lost; history ${hash.slice(0, 16)}`;
}

function describeHost({ room, memoryVersion }: HostTraits): string {
  return memoryVersion === null ? `${room}` : `${room} (keeps memory, version ${memoryVersion})`;
}
