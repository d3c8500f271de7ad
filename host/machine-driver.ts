import type { CapsuleShape, DriverCapabilities } from '@caisson/contracts/host-api';
import type { GuestLink } from './guest-link.ts';

/**
 * A way to run isolated machines. Two bodies exist or will (container, microvm); nothing above this port knows which one runs
 * but by `capabilities`.
 */
export interface MachineDriver {
  readonly capabilities: DriverCapabilities;
  /** Where its capsules run, told in the log of every job; absent where it is what everybody has. */
  readonly place?: string;
  /** Starts a capsule on a disk and waits until its agent answers. On any failure nothing is left behind. */
  create(spec: MachineSpec): Promise<Machine>;
  /** Takes up a capsule that outlived an earlier host process; null when it is not (or no longer) alive. */
  adopt(capsuleId: string): Promise<Machine | null>;
  /**
   * What is left of a capsule that cannot be adopted, to be taken down whatever state it is in. `stop` names where its writable layer
   * is if it has one.
   */
  remains(capsuleId: string): Remains;
  /** Ids of every capsule of which anything exists on this machine: process, mount, network namespace, cgroup or file. */
  list(): Promise<readonly string[]>;
  /** Removes whatever is left of a capsule, in any state. Idempotent. */
  destroy(capsuleId: string): Promise<void>;
  /** Gives back pooled resources at an orderly end; capsules that run are left alone. */
  close(): Promise<void>;
  /** There if and only if `capabilities.memorySnapshots`. */
  readonly memory?: MemorySnapshots;
}

/** Snapshots that hold memory: what ran goes on in the middle of what it did. All of them throw `snapshot_failed`. */
export interface MemorySnapshots {
  /**
   * Saves a capsule of this process, which must not be paused, to `directory`, which is then there whole or not at all. The capsule
   * stands still for as long as its changed memory and its disk take to copy, and goes on.
   */
  snapshot(capsuleId: string, directory: string): Promise<void>;
  /**
   * Starts another capsule where a snapshot stopped, under its own name, with its own random numbers and the time of now. `spec` is
   * that of the capsule it was, but for id and name, and with the snapshot's directory as one more layer on top.
   */
  restore(directory: string, spec: MachineSpec): Promise<Machine>;
  /** Throws when a snapshot in a directory is not whole, or what it holds cannot go on here. */
  check(directory: string): Promise<void>;
  /** Saves a capsule of this process, on disk for good, and ends what runs of it. Interrupted, it is as if it had not begun. */
  suspend(capsuleId: string): Promise<void>;
  /** Goes on with a suspended capsule, whose spec it was created with; it is suspended no more. Interrupted, it still is. */
  wake(spec: MachineSpec): Promise<Machine>;
}

export interface MachineSpec {
  readonly capsuleId: string;
  /** Read-only layers, top first; the capsule gets an empty writable layer above them. */
  readonly layers: readonly string[];
  readonly shape: CapsuleShape;
  readonly egress: 'none' | 'internet';
  /** Host directories shown read-only inside: the tools layer. */
  readonly readOnlyBinds: readonly { readonly from: string; readonly to: string }[];
  readonly hostname: string;
  /** Gets short lines, for the job's log, about what takes long. */
  readonly note?: (line: string) => void;
}

export interface Machine {
  readonly capsuleId: string;
  readonly guest: GuestLink;
  /** What grows as the capsule writes, for whoever watches its size; null when the driver itself limits the disk. */
  readonly writable: WritableDisk | null;
  /** Resolves when the capsule is dead for whatever reason, with what is known of the cause. */
  readonly died: Promise<MachineDeath>;
  /** Freezes every process of the capsule; memory stays where it is. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  usage(): Promise<{ readonly memoryBytes: number; readonly cpuMs: number }>;
  /** True when the kernel killed something in this capsule for want of memory. */
  wasOutOfMemory(): Promise<boolean>;
  /** True when its disk has a size of its own and no room left; asked when a command has failed. */
  isDiskFull(): Promise<boolean>;
  /**
   * Kills every process and returns the directory of the writable layer, which is complete and mounted nowhere. What else there was is
   * given back in the background; `destroy` waits for it.
   */
  stop(): Promise<{ readonly upperDir: string }>;
  /** Stop, and remove the writable layer too. Idempotent. */
  destroy(): Promise<void>;
}

/** The end of a machine; `remains` has nothing but this. */
export type Remains = Pick<Machine, 'stop' | 'destroy'>;

export interface WritableDisk {
  readonly directory: string;
  /** Host pids in the capsule: they may hold files open that have no name any more. */
  processes(): Promise<readonly number[]>;
}

export interface MachineDeath {
  readonly outOfMemory: boolean;
  readonly detail: string;
}
