import type { RunMessage } from '@caisson/contracts/host-api';
import type { Effect } from '../engine/effects.ts';
import type { RunningEngine } from '../engine/make-engine.ts';
import type { Draws } from './draws.ts';
import type { History } from './history.ts';
import type { Ledger } from './ledger.ts';
import type { Scenario } from './scenario.ts';
import type { SqlSession } from './sql-session.ts';
import type { Timeline } from './timeline.ts';

/** What everybody in one run of the simulation shares. */
export interface World {
  readonly scenario: Scenario;
  readonly draws: Draws;
  readonly timeline: Timeline;
  readonly history: History;
  readonly session: SqlSession;
  readonly ledger: Ledger;
  readonly stats: { -readonly [name in keyof Stats]: Stats[name] };
  readonly weather: Weather;
  /** Everything any host has ever done, by lease; nobody in the simulation can read it. */
  readonly records: Map<string, RunRecord>;
  /** The present lives of control planes, those that are down left out. */
  readonly lives: Set<Life>;
  /** Who holds which lock, and what tells it that the lock is gone. */
  readonly locks: Map<string, { readonly life: Life; readonly lose: () => void }>;
  /** Effects that are committed and not performed. */
  readonly owed: Set<Effect>;
  /** Builds that nobody has asked for yet. */
  unasked: number;
  /** A promise is broken: the run ends behind this event. The first one counts. */
  fail(invariant: string, message: string): void;
  violation: Violation | null;
  /** Reads what a commit has changed and looks whether it was allowed. */
  observe(who: string): Promise<void>;
}

export interface Violation {
  readonly invariant: string;
  readonly message: string;
}

/** What happened in a run, by number. */
export interface Stats {
  readonly simulatedMs: number;
  readonly events: number;
  readonly statements: number;
  readonly commits: number;
  readonly builds: number;
  readonly jobs: number;
  readonly cancels: number;
  /** Of control planes. */
  readonly crashes: number;
  readonly hostCrashes: number;
  readonly partitions: number;
  /** Calls and replies that were lost. */
  readonly dropped: number;
  /** Calls and messages that came more than once. */
  readonly duplicated: number;
  /** Messages under a lease that was not held any more. */
  readonly late: number;
  /** Disks that were brought to another host. */
  readonly copies: number;
  /** Runs that went on from the memory of another. */
  readonly forks: number;
  readonly leaseLosses: number;
}

export const noStats: Stats = {
  ...{ simulatedMs: 0, events: 0, statements: 0, commits: 0, builds: 0, jobs: 0, cancels: 0 },
  ...{
    crashes: 0,
    hostCrashes: 0,
    partitions: 0,
    dropped: 0,
    duplicated: 0,
    late: 0,
    copies: 0,
    forks: 0,
    leaseLosses: 0,
  },
};

/** How well the world outside of the processes does at the moment. */
export interface Weather {
  /** Pairs that do not reach each other, `plane host`, with how many reasons there are. */
  readonly cuts: Map<string, number>;
  /** Share of calls and replies that are lost; as many are repeated. */
  share: number;
  delayMs: number;
  deaf: number;
  effectsLost: number;
}

/** What one lease's run really did. */
export interface RunRecord {
  readonly leaseId: string;
  readonly fence: number;
  readonly messages: RunMessage[];
  /** How often the command was begun: for one lease never twice. */
  begun: number;
  lastDelivered: number;
  /** The host has lost its disk since. */
  isWiped: boolean;
}

/** One process of a control plane, from its start to its end. What was still to happen to one that is gone never does. */
export interface Life {
  readonly name: string;
  readonly isAlive: boolean;
  /** The statements that are going to be the last, or to fail. */
  readonly doom: Doom[];
  /** Notices and effects of the open transaction. */
  readonly unsent: { notices: string[]; effects: Effect[] };
  /** Who listens for notices. */
  readonly listeners: Map<string, Set<() => void>>;
  performer: ((effect: Effect) => Promise<void>) | null;
  engine: RunningEngine | null;
  end(): void;
  /** Has `run` happen in the process. */
  after(delayMs: number, run: () => unknown): () => void;
  freeze(forMs: number): void;
}

export interface Doom {
  statementsLeft: number;
  readonly kind: 'crash' | 'cut' | 'cut_behind';
  readonly happen: () => void;
}

/** A failure that the simulation has made; any other error that is logged is a bug. */
export class SimulatedFault extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SimulatedFault';
  }
}

export function cutKey(plane: string, host: string): string {
  return `${plane} ${host}`;
}
