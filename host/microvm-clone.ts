import type { GuestLink } from './guest-link.ts';
import { greetLater } from './microvm-greeting.ts';
import { loadMemory, type MemoryFiles } from './microvm-memory.ts';
import {
  dropVessel,
  type MicrovmVessel,
  provideDevices,
  startVessel,
  type VesselContext,
  type VesselShape,
} from './microvm-vessel.ts';
import { orUndo } from './or-undo.ts';
import { loadDevices } from './qemu-migration.ts';

/** What stands and waits to hear who it is. */
export interface WaitingClone {
  readonly vessel: MicrovmVessel;
  /** Its agent, as soon as it runs. */
  readonly guest: Promise<GuestLink>;
  /** The memory it began with. */
  readonly ramPath: string;
  /** The directory of its disk, which is mounted in it; null while it has none. */
  readonly diskDir: string | null;
}

interface CloneOptions {
  readonly shape: VesselShape;
  /** Processor time, in processors. */
  readonly cpus: number;
  /** Of a template, or of one machine with what had changed of its memory. */
  readonly of: 'template' | MemoryFiles;
  readonly ramPath: string;
  readonly devicesPath: string;
}

/** A vessel that stands where another one stopped. On any failure nothing is left of it. */
export async function cloneVessel(context: VesselContext, options: CloneOptions): Promise<WaitingClone> {
  const { shape, cpus, of, ramPath, devicesPath } = options;
  const beginning = { kind: 'clone', of: of === 'template' ? of : 'one' } as const;
  const vessel = await startVessel(context, { shape, cpus, beginning, ramPath });
  const load = async () => {
    const guest = greetLater(vessel, context.bootTimeoutMs);
    if (of !== 'template') await loadMemory({ pid: vessel.qemu.ref.pid, ramPath }, of);
    await provideDevices(vessel, devicesPath);
    await loadDevices(vessel.qemu.qmp);
    return { vessel, guest, ramPath, diskDir: null };
  };
  return orUndo(load, () => dropVessel(context, vessel));
}
