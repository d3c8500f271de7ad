import { setTimeout as delay } from 'node:timers/promises';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleLayout } from './container-layout.ts';
import { isAlive } from './container-process.ts';
import { killVessel, removeVessel, type Vessel } from './container-vessel.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineDeath } from './machine-driver.ts';
import { countSockets } from './network-sockets.ts';
import type { RunBriefly } from './resident-programs.ts';

interface MachineParts {
  readonly layout: CapsuleLayout;
  readonly vessel: Vessel;
  readonly run: RunBriefly;
  /** Gives the capsule's network back, once nothing of it runs any more; `isClean` tells whether it left sockets. */
  readonly releaseNetwork: (isClean: boolean) => Promise<void>;
  /** Called with what is under way of the machine's end. */
  readonly onLeaving: (work: Promise<void>) => void;
  /** Called once, when nothing is left of the machine but its disk. */
  readonly onCleared: () => void;
}

/** A running container capsule behind the port. */
export function makeContainerMachine(parts: MachineParts): Machine {
  const { layout, run, vessel } = parts;
  const { cgroup, guest } = vessel;
  const stopped = Promise.withResolvers<MachineDeath>();
  let stopping: Promise<{ readonly upperDir: string }> | null = null;
  let clearing: Promise<void> | null = null;
  let wasOutOfMemory = false;
  let isSlotClean = false;
  const readOutOfMemory = async () => {
    // The answer outlives the group it was read from.
    wasOutOfMemory ||= await cgroup.outOfMemory();
    return wasOutOfMemory;
  };
  const stop = async () => {
    await readOutOfMemory();
    guest.close();
    const sockets = vessel.slot && vessel.keepsSlot ? await countSockets(vessel.init.pid) : null;
    await killVessel(vessel.layout, cgroup);
    isSlotClean = sockets !== null && (await sockets.none());
    stopped.resolve({ outOfMemory: wasOutOfMemory, detail: 'the host stopped it' });
    // Whoever waits for the disk does not wait for this.
    parts.onLeaving(clearOnce());
    return { upperDir: layout.upperDir };
  };
  const clear = async () => {
    await removeVessel({ run }, vessel.layout, cgroup);
    await parts.releaseNetwork(isSlotClean);
    crashPoint('takedown.disconnected');
    parts.onCleared();
  };
  // After a failure a later attempt may succeed where this one ran out of time.
  const stopOnce = () => {
    stopping ??= stop().catch((error: unknown) => {
      stopping = null;
      throw error;
    });
    return stopping;
  };
  const clearOnce = () => {
    clearing ??= clear().catch((error: unknown) => {
      clearing = null;
      throw error;
    });
    return clearing;
  };
  const destroy = async () => {
    await stopOnce();
    await clearOnce();
    await removeTree(layout.stateDir, run);
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
    // Whoever watches `writable` knows.
    isDiskFull: async () => false,
    stop: stopOnce,
    destroy() {
      const destroyed = destroy();
      parts.onLeaving(destroyed);
      return destroyed;
    },
  };
}

/**
 * A lost link alone is no death: an adopting host may have taken it over. It only means that now is the time to look whether the
 * capsule's init is still there.
 */
async function watchDeath(
  { vessel: { guest, init } }: MachineParts,
  outOfMemory: () => Promise<boolean>,
): Promise<MachineDeath> {
  const reason = await guest.closed;
  for (let pauseMs = 2; await isAlive(init); pauseMs = Math.min(pauseMs * 2, 1_000)) {
    await delay(pauseMs, undefined, { ref: false });
  }
  const isOutOfMemory = await outOfMemory();
  const cause = isOutOfMemory ? 'the kernel killed a process in it for want of memory' : reason;
  return { outOfMemory: isOutOfMemory, detail: `the capsule ended by itself: ${cause}` };
}
