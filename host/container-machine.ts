import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleCgroup } from './cgroup-capsule.ts';
import { unmountBelow } from './container-disk.ts';
import type { CapsuleLayout } from './container-layout.ts';
import { findInit, isAlive, type ProcessRef, waitUntilDead } from './container-process.ts';
import type { GuestLink } from './guest-link.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineDeath } from './machine-driver.ts';

export interface MachineParts {
  readonly layout: CapsuleLayout;
  readonly cgroup: CapsuleCgroup;
  readonly guest: GuestLink;
  readonly init: ProcessRef;
  /** Gives the capsule's network back, once nothing of it runs any more. */
  readonly releaseNetwork: () => Promise<void>;
  /** Called once, when the machine has been stopped. */
  readonly onStopped: () => void;
}

/** A running container capsule behind the port. */
export function makeContainerMachine(parts: MachineParts): Machine {
  const { layout, cgroup, guest } = parts;
  const stopped = Promise.withResolvers<MachineDeath>();
  let stopping: Promise<{ readonly upperDir: string }> | null = null;
  let wasOutOfMemory = false;
  const readOutOfMemory = async () => {
    // The answer outlives the group it was read from.
    wasOutOfMemory ||= await cgroup.outOfMemory();
    return wasOutOfMemory;
  };
  const stop = async () => {
    await readOutOfMemory();
    guest.close();
    await takeDown(layout, cgroup, parts.releaseNetwork);
    stopped.resolve({ outOfMemory: wasOutOfMemory, detail: 'the host stopped it' });
    parts.onStopped();
    return { upperDir: layout.upperDir };
  };
  const stopOnce = () => {
    stopping ??= stop().catch((error: unknown) => {
      // A later attempt may succeed where this one ran out of time.
      stopping = null;
      throw error;
    });
    return stopping;
  };
  return {
    capsuleId: layout.capsuleId,
    guest,
    writable: { directory: layout.upperDir, processes: cgroup.processes },
    // While the host stops it, its end is the host's doing.
    died: watchDeath(parts, readOutOfMemory).then((death) => (stopping === null ? death : stopped.promise)),
    pause: () => cgroup.freeze(),
    resume: () => cgroup.thaw(),
    usage: () => cgroup.usage(),
    wasOutOfMemory: readOutOfMemory,
    stop: stopOnce,
    async destroy() {
      await stopOnce();
      await removeTree(layout.stateDir);
    },
  };
}

/**
 * A lost link alone is no death: an adopting host may have taken it over. It only means that now is the time to look whether the
 * capsule's init is still there.
 */
async function watchDeath({ guest, init }: MachineParts, outOfMemory: () => Promise<boolean>): Promise<MachineDeath> {
  const reason = await guest.closed;
  for (let pauseMs = 2; await isAlive(init); pauseMs = Math.min(pauseMs * 2, 1_000)) {
    await delay(pauseMs, undefined, { ref: false });
  }
  const isOutOfMemory = await outOfMemory();
  const cause = isOutOfMemory ? 'the kernel killed a process in it for want of memory' : reason;
  return { outOfMemory: isOutOfMemory, detail: `the capsule ended by itself: ${cause}` };
}

/** Kills everything in a capsule and removes all of it but its disk. Works on any part of a capsule, and again. */
export async function takeDown(
  layout: CapsuleLayout,
  cgroup: CapsuleCgroup,
  releaseNetwork: () => Promise<void>,
): Promise<void> {
  const init = await findInit(layout, await cgroup.processes());
  await cgroup.killAll(10_000);
  if (init) await waitUntilDead(init);
  crashPoint('takedown.killed');
  const removed = await Promise.allSettled([removeRunDir(layout), cgroup.remove()]);
  crashPoint('takedown.unmounted');
  await releaseNetwork();
  crashPoint('takedown.disconnected');
  for (const result of removed) if (result.status === 'rejected') throw result.reason;
}

async function removeRunDir(layout: CapsuleLayout): Promise<void> {
  await unmountBelow(layout.runDir);
  await rm(layout.runDir, { recursive: true, force: true });
}
