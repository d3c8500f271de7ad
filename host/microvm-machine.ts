import type { GuestLink } from './guest-link.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineDeath } from './machine-driver.ts';
import { countMemoryKills, isGuestDiskFull, syncGuest } from './microvm-guest.ts';
import type { MicrovmLayout } from './microvm-layout.ts';
import type { MicrovmVessel } from './microvm-vessel.ts';
import { countSockets } from './network-sockets.ts';

interface MicrovmParts {
  readonly layout: MicrovmLayout;
  readonly vessel: MicrovmVessel;
  readonly guest: GuestLink;
  /** How much had been killed for want of memory in the machine it goes on from. */
  readonly inheritedKills: number;
  /** Called when everything the machine wrote is on its disk, before it is stopped for its disk to be kept. */
  readonly onDiskWhole: () => Promise<void>;
  /** Kills what runs of it and removes all of that but its network. */
  readonly removeVessel: () => Promise<void>;
  /** Gives the machine's network back, once nothing of it runs any more; `isClean` tells whether its QEMU left sockets. */
  readonly releaseNetwork: (isClean: boolean) => Promise<void>;
  /** Called once, when the machine has been stopped. */
  readonly onStopped: () => void;
}

/** A machine this process holds. */
export interface HeldMachine extends Machine {
  readonly vessel: MicrovmVessel;
  /** Ends what runs of it and keeps what is on disk; the host's doing, whatever became of its disk. */
  letGo(): Promise<void>;
}

/** A running micro-virtual machine behind the port. */
export function makeMicrovmMachine(parts: MicrovmParts): HeldMachine {
  const { layout, guest } = parts;
  const { cgroup, qemu, ended } = parts.vessel;
  const stopped = Promise.withResolvers<MachineDeath>();
  let stopping: Promise<{ readonly upperDir: string }> | null = null;
  let isBeingStopped = false;
  let outOfMemory = false;
  const readOutOfMemory = async () => {
    outOfMemory ||= (await cgroup.outOfMemory()) || (await countMemoryKills(guest)) > parts.inheritedKills;
    return outOfMemory;
  };
  const takeDown = async (keepsDisk: boolean) => {
    isBeingStopped = true;
    if (keepsDisk) {
      await cgroup.thaw().catch(() => {});
      await readOutOfMemory();
      await syncGuest(guest);
      await parts.onDiskWhole();
    }
    guest.close();
    qemu.qmp.close();
    const sockets = await countSockets(qemu.ref.pid);
    await parts.removeVessel();
    await parts.releaseNetwork(sockets !== null && (await sockets.none()));
    stopped.resolve({ outOfMemory, detail: 'the host stopped it' });
    parts.onStopped();
    return { upperDir: layout.diskDir };
  };
  const takeDownOnce = (keepsDisk: boolean) => {
    stopping ??= takeDown(keepsDisk).catch((error: unknown) => {
      // A later attempt may succeed where this one ran out of time.
      stopping = null;
      throw error;
    });
    return stopping;
  };
  return {
    capsuleId: layout.capsuleId,
    guest,
    vessel: parts.vessel,
    async letGo() {
      await takeDownOnce(false);
    },
    // Its disk has a size of its own, but the host may run out of room before.
    writable: { directory: layout.diskDir, processes: async () => [] },
    died: ended.then(async (detail) => {
      // While the host stops it, its end is the host's doing.
      if (isBeingStopped) return stopped.promise;
      return {
        outOfMemory: outOfMemory || (await cgroup.outOfMemory()),
        detail: `the machine ended by itself: ${detail}`,
      };
    }),
    pause: () => cgroup.freeze(),
    resume: () => cgroup.thaw(),
    usage: () => cgroup.usage(),
    wasOutOfMemory: readOutOfMemory,
    isDiskFull: () => isGuestDiskFull(guest),
    stop: () => takeDownOnce(true),
    async destroy() {
      await takeDownOnce(false);
      await removeTree(layout.stateDir);
    },
  };
}
