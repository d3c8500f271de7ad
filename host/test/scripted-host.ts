import { randomUUID } from 'node:crypto';
import type { RunAssignment } from '@caisson/contracts/host-api';
import type { GuestExit, GuestLink, GuestProcess } from '../guest-link.ts';
import { createHost, type Host, type HostParts } from '../host.ts';
import type { LayerStore, SourceStore } from '../layer-store.ts';
import type { Machine, MachineDriver } from '../machine-driver.ts';
import type { Provisioner } from '../run-provision.ts';
import { testAssignment } from './run-assignment.ts';

/** The one command of a scripted host, which ends when the test says so. */
interface ScriptedCommand {
  /** Resolves when the host reads its output. */
  readonly followed: Promise<void>;
  /** What it was sent, in order. */
  readonly signals: readonly number[];
  /** How often it was started. */
  readonly starts: number;
  end(exit: GuestExit): void;
}

export interface ScriptedHost {
  readonly host: Host;
  readonly command: ScriptedCommand;
  startRun(changes?: Partial<RunAssignment>): Promise<RunAssignment>;
}

/** A host whose capsules are played: what it writes down and when it signals is real. `isRunning`: the command was started before. */
export async function openScriptedHost(dataDir: string, { isRunning = false } = {}): Promise<ScriptedHost> {
  const exit = Promise.withResolvers<GuestExit>();
  const followed = Promise.withResolvers<void>();
  const lost = Promise.withResolvers<never>();
  lost.promise.catch(() => {});
  const signals: number[] = [];
  let starts = 0;
  const process: GuestProcess = {
    processId: 1,
    async *output() {
      followed.resolve();
      await Promise.race([exit.promise, lost.promise]);
      yield* [];
    },
    acknowledge: () => {},
    exit: Promise.race([exit.promise, lost.promise]),
    write: async () => {},
    closeStdin: () => {},
    resize: () => {},
    kill: (signal) => void signals.push(signal),
    forget: () => {},
  };
  process.exit.catch(() => {});
  const guest: Partial<GuestLink> = {
    async exec() {
      starts += 1;
      return process;
    },
    attach: async () => (isRunning ? process : null),
    mkdir: async () => {},
    stat: async () => Promise.reject(new Error('nothing is here')),
    close: () => lost.reject(new Error('the link is closed')),
  };
  const machine = {
    guest,
    writable: null,
    died: new Promise(() => {}),
    wasOutOfMemory: async () => false,
    isDiskFull: async () => false,
  } as unknown as Machine;
  const host = await createHost(partsOf(dataDir, machine, isRunning));
  return {
    host,
    command: {
      followed: followed.promise,
      signals,
      get starts() {
        return starts;
      },
      end: exit.resolve,
    },
    async startRun(changes) {
      const assignment = { ...testAssignment, leaseId: randomUUID(), capsuleId: randomUUID(), ...changes };
      await host.startRun(assignment);
      return assignment;
    },
  };
}

function partsOf(dataDir: string, machine: Machine, isRunning: boolean): HostParts {
  const provisioner: Provisioner = {
    adopt: async () => (isRunning ? machine : null),
    provision: async () => machine,
    seal: async () => {},
    checkMemory: async () => {},
    discard: async () => {},
    list: async () => [],
  };
  const driver: Partial<MachineDriver> = { close: async () => {} };
  const description = {
    hostId: 'scripted',
    protocol: 1,
    driver: { driver: 'container', runtime: 'none', memorySnapshots: false },
    capacity: { cpus: 1, memoryBytes: 2 ** 30, diskBytes: 2 ** 30 },
  } as const;
  return {
    description,
    dataDir,
    provisioner,
    driver: driver as MachineDriver,
    layers: {} as LayerStore,
    sources: {} as SourceStore,
  };
}
