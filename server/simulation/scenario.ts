import { drawsOf } from './draws.ts';
import { type RandomStep, randomSteps } from './random-pipeline.ts';

/** Everything a run of the simulation is made of: from the same scenario comes the same history, event for event. */
export interface Scenario {
  readonly seed: number;
  readonly planes: number;
  readonly hosts: readonly HostTraits[];
  readonly builds: readonly RandomBuild[];
  readonly faults: readonly Fault[];
}

export interface HostTraits {
  /** Capsules it has room for. */
  readonly room: number;
  /** The version of the driver with which it keeps memory; null when it keeps none. Only hosts of one version go on with what another kept. */
  readonly memoryVersion: number | null;
}

export interface RandomBuild {
  readonly name: string;
  readonly atMs: number;
  readonly steps: readonly RandomStep[];
  readonly stopOnFailure: boolean;
  readonly timeoutMs: number | null;
  /** Its graph is not given but rendered in a capsule. */
  readonly isRendered: boolean;
  readonly cancelAtMs: number | null;
}

/** What goes wrong, from `atMs` on. Counts of statements are those of the plane, so that it happens between any two of them. */
export type Fault = { readonly atMs: number } & (
  | { readonly kind: 'crash_plane'; readonly plane: number; readonly afterStatements: number; readonly downMs: number }
  | { readonly kind: 'freeze_plane'; readonly plane: number; readonly forMs: number }
  /** The connection to the database breaks at a statement; `isDone` when it breaks behind it. */
  | {
      readonly kind: 'cut_database';
      readonly plane: number;
      readonly afterStatements: number;
      readonly isDone: boolean;
    }
  /** The database ends the connection that holds a host's lock; the plane hears of it late. */
  | { readonly kind: 'lose_lock'; readonly host: number; readonly heardAfterMs: number }
  | { readonly kind: 'deafen'; readonly forMs: number }
  | { readonly kind: 'partition'; readonly plane: number; readonly host: number; readonly forMs: number }
  | { readonly kind: 'crash_host'; readonly host: number; readonly downMs: number }
  | { readonly kind: 'wipe_host'; readonly host: number }
  /** A network that loses, repeats and delays calls and replies. */
  | { readonly kind: 'bad_network'; readonly share: number; readonly delayMs: number; readonly forMs: number }
  | { readonly kind: 'lose_effects'; readonly forMs: number }
);

const faultKinds = [
  ...(['crash_plane', 'crash_plane', 'crash_plane', 'crash_plane', 'freeze_plane', 'cut_database'] as const),
  ...(['cut_database', 'lose_lock', 'deafen', 'partition', 'partition', 'crash_host', 'wipe_host'] as const),
  ...(['bad_network', 'bad_network', 'lose_effects'] as const),
] as const;

/** Most builds are over by then. */
const faultsUntilMs = 3_500;

/** The scenario of a seed. */
export function scenarioOf(seed: number): Scenario {
  const draws = drawsOf(seed);
  const planes = draws.pick([1, 1, 2, 2, 3], 'planes');
  const keepsMemory = draws.chance(0.4, 'memory');
  const hosts = Array.from({ length: draws.pick([1, 1, 2, 3], 'hosts') }, () => ({
    room: draws.between(1, 3, 'room'),
    memoryVersion: keepsMemory ? draws.pick([null, 1, 1, 2], 'memory version') : null,
  }));
  const builds = Array.from({ length: draws.pick([1, 1, 1, 1, 2], 'builds') }, (_, index) => {
    return randomBuild(seed, `build-${index + 1}`);
  });
  const faults = Array.from({ length: draws.pick([0, 1, 2, 3, 4, 6], 'faults') }, () => {
    return randomFault(seed, { planes, hosts: hosts.length, draws });
  });
  return { seed, planes, hosts, builds, faults: faults.toSorted((one, other) => one.atMs - other.atMs) };
}

function randomBuild(seed: number, name: string): RandomBuild {
  const draws = drawsOf(seed ^ Number.parseInt(name.replace(/\D/g, ''), 10));
  const atMs = draws.chance(0.6, 'at once') ? 0 : draws.between(1, 3_000, 'at');
  return {
    ...{ name, atMs, steps: randomSteps(draws) },
    stopOnFailure: draws.chance(0.3, 'stop'),
    timeoutMs: draws.chance(0.08, 'times out') ? draws.between(1, 4, 'timeout') * 1_000 : null,
    isRendered: draws.chance(0.2, 'rendered'),
    cancelAtMs: draws.chance(0.2, 'canceled') ? atMs + draws.between(0, 5_000, 'cancel') : null,
  };
}

interface FaultRange {
  readonly planes: number;
  readonly hosts: number;
  readonly draws: ReturnType<typeof drawsOf>;
}

function randomFault(_seed: number, { planes, hosts, draws }: FaultRange): Fault {
  const atMs = draws.between(0, faultsUntilMs, 'fault at');
  const plane = draws.between(0, planes - 1, 'fault plane');
  const host = draws.between(0, hosts - 1, 'fault host');
  const afterStatements = draws.between(0, 40, 'fault statements');
  const kind = draws.pick(faultKinds, 'fault');
  /** Mostly short, now and then longer than a lease. */
  const forMs = draws.chance(0.75, 'fault short')
    ? draws.between(100, 4_000, 'fault for')
    : draws.between(4_000, 25_000, 'fault for');
  switch (kind) {
    case 'crash_plane':
      return { kind, atMs, plane, afterStatements, downMs: forMs };
    case 'cut_database':
      return { kind, atMs, plane, afterStatements, isDone: draws.chance(0.5, 'fault done') };
    case 'lose_lock':
      return { kind, atMs, host, heardAfterMs: draws.between(0, 4_000, 'fault heard') };
    case 'partition':
      return { kind, atMs, plane, host, forMs };
    case 'crash_host':
      return { kind, atMs, host, downMs: forMs };
    case 'wipe_host':
      return { kind, atMs, host };
    case 'bad_network':
      return {
        kind,
        atMs,
        share: draws.pick([0.05, 0.2, 0.4], 'fault share'),
        delayMs: draws.pick([5, 200, 3_000], 'fault delay'),
        forMs,
      };
    case 'freeze_plane':
      return { kind, atMs, plane, forMs };
    case 'deafen':
    case 'lose_effects':
      return { kind, atMs, forMs };
  }
}

/** Whether there is a host for a step that keeps its memory; where there is none, no step asks for it. */
export function keepsMemory({ hosts }: Scenario): boolean {
  return hosts.some(({ memoryVersion }) => memoryVersion !== null);
}

/** When everything has been asked for. */
export function lastAskedMs({ builds }: Scenario): number {
  return Math.max(...builds.map(({ atMs, cancelAtMs }) => Math.max(atMs, cancelAtMs ?? 0)));
}

/** When the last fault is over at the latest: from then on everything has to come to its end. */
export function faultsEndMs({ faults }: Scenario): number {
  const ends = faults.map((fault) => {
    return fault.atMs + ('forMs' in fault ? fault.forMs : 'downMs' in fault ? fault.downMs : 0);
  });
  return Math.max(0, ...ends);
}
