import { readFile } from 'node:fs/promises';
import type { ProcessRef } from './container-process.ts';
import { isRecord } from './is-record.ts';
import type { MicrovmLayout } from './microvm-layout.ts';
import type { VesselShape } from './microvm-vessel.ts';
import { writeAtomically } from './write-atomically.ts';

/** What must be known to take a machine up, or to clean it up, after a crash. Written before anything else of it exists. */
export interface MicrovmState {
  readonly version: 1;
  readonly capsuleId: string;
  /** What it runs in: names its run directory and its control group. */
  readonly vesselId: string;
  /** Its QEMU; null when it is suspended. */
  readonly process: ProcessRef | null;
  /**
   * `starting` until nobody can take it for another machine any more; only then may a later process take it up. `suspended`: its
   * memory is on disk, and nothing of it runs, or has to.
   */
  readonly phase: 'starting' | 'running' | 'suspended';
  readonly shape: VesselShape;
  /** Number of its network slot; null when it has no network, or none any more. */
  readonly networkSlot: number | null;
  /** Whether everything it wrote had reached its disk when it was stopped; a machine that was killed lost what its kernel held back. */
  readonly isDiskWhole: boolean;
  /** How much had been killed for want of memory in the machine it goes on from. */
  readonly inheritedKills: number;
}

export async function writeMicrovmState(layout: MicrovmLayout, state: MicrovmState): Promise<void> {
  await writeAtomically(layout.stateFile, JSON.stringify(state));
}

/** Null when there is none, or one cut off by a power loss: then nothing was created after it. */
export async function readMicrovmState(layout: MicrovmLayout): Promise<MicrovmState | null> {
  try {
    const state: unknown = JSON.parse(await readFile(layout.stateFile, 'utf8'));
    if (!isRecord(state) || state.version !== 1 || typeof state.vesselId !== 'string') return null;
    return {
      version: 1,
      capsuleId: layout.capsuleId,
      vesselId: state.vesselId,
      process: readProcess(state.process),
      phase: state.phase === 'running' || state.phase === 'suspended' ? state.phase : 'starting',
      shape: readVesselShape(state.shape),
      networkSlot: Number.isInteger(state.networkSlot) ? Number(state.networkSlot) : null,
      isDiskWhole: state.isDiskWhole === true,
      inheritedKills: Number.isInteger(state.inheritedKills) ? Number(state.inheritedKills) : 0,
    };
  } catch {
    return null;
  }
}

/** What a file says a vessel is like. */
export function readVesselShape(value: unknown): VesselShape {
  const { cpus, ramBytes, diskPlaces, hasNetwork } = isRecord(value) ? value : {};
  return {
    cpus: Number(cpus),
    ramBytes: Number(ramBytes),
    diskPlaces: Number(diskPlaces),
    hasNetwork: hasNetwork === true,
  };
}

function readProcess(value: unknown): ProcessRef | null {
  if (!isRecord(value) || !Number.isInteger(value.pid) || !Number.isInteger(value.startTime)) return null;
  return { pid: Number(value.pid), startTime: Number(value.startTime) };
}

/** Does nothing for a machine of which nothing is known. */
export async function changeMicrovmState(layout: MicrovmLayout, changes: Partial<MicrovmState>): Promise<void> {
  const state = await readMicrovmState(layout);
  if (state !== null) await writeMicrovmState(layout, { ...state, ...changes });
}
