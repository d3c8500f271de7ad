import { rm } from 'node:fs/promises';
import type { CapsuleCgroup } from './cgroup-capsule.ts';
import type { GuestLink } from './guest-link.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineDeath } from './machine-driver.ts';
import { isGuestDiskFull, syncGuest, wasGuestOutOfMemory } from './microvm-guest.ts';
import type { MicrovmLayout } from './microvm-layout.ts';
import { countSockets } from './network-sockets.ts';
import type { QemuProcess } from './qemu-process.ts';

export interface MicrovmParts {
  readonly layout: MicrovmLayout;
  readonly cgroup: CapsuleCgroup;
  readonly guest: GuestLink;
  readonly qemu: QemuProcess;
  /** Resolves when the machine is dead, with the cause. */
  readonly ended: Promise<string>;
  /** Called when everything the machine wrote is on its disk, before it is stopped for its disk to be kept. */
  readonly onDiskWhole: () => Promise<void>;
  /** Gives the machine's network back, once nothing of it runs any more; `isClean` tells whether its QEMU left sockets. */
  readonly releaseNetwork: (isClean: boolean) => Promise<void>;
  /** Called once, when the machine has been stopped. */
  readonly onStopped: () => void;
}

/** A running micro-virtual machine behind the port. */
export function makeMicrovmMachine(parts: MicrovmParts): Machine {
  const { layout, cgroup, guest, qemu } = parts;
  const stopped = Promise.withResolvers<MachineDeath>();
  let stopping: Promise<{ readonly upperDir: string }> | null = null;
  let isBeingStopped = false;
  let outOfMemory = false;
  const readOutOfMemory = async () => {
    outOfMemory ||= (await cgroup.outOfMemory()) || (await wasGuestOutOfMemory(guest));
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
    await removeRunning(layout, cgroup);
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
    // Its disk has a size of its own, but the host may run out of room before.
    writable: { directory: layout.diskDir, processes: async () => [] },
    died: parts.ended.then(async (detail) => {
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

/** Kills a machine and removes all of it but its disk. Works on any part of one, and again. */
export async function removeRunning(layout: MicrovmLayout, cgroup: CapsuleCgroup): Promise<void> {
  await cgroup.killAll(10_000);
  await rm(layout.runDir, { recursive: true, force: true });
  await cgroup.remove();
}
