import { readFile, rename, writeFile } from 'node:fs/promises';
import type { ProcessRef } from './container-process.ts';
import type { MicrovmLayout } from './microvm-layout.ts';
import { isRecord } from './qemu-json.ts';

/** What must be known to take a machine up, or to clean it up, after a crash. Written before anything else of it exists. */
export interface MicrovmState {
  readonly version: 1;
  readonly capsuleId: string;
  /** User id of its QEMU, which no other machine has. */
  readonly uid: number;
  /** Its QEMU; null until that was started. */
  readonly process: ProcessRef | null;
  /** Number of its network slot; null when it has no network, or none any more. */
  readonly networkSlot: number | null;
  /** Whether everything it wrote had reached its disk when it was stopped; a machine that was killed lost what its kernel held back. */
  readonly isDiskWhole: boolean;
}

export async function writeMicrovmState(layout: MicrovmLayout, state: MicrovmState): Promise<void> {
  await writeFile(`${layout.stateFile}.new`, JSON.stringify(state));
  await rename(`${layout.stateFile}.new`, layout.stateFile);
}

/** Null when there is none, or one cut off by a power loss: then nothing was created after it. */
export async function readMicrovmState(layout: MicrovmLayout): Promise<MicrovmState | null> {
  try {
    const state: unknown = JSON.parse(await readFile(layout.stateFile, 'utf8'));
    if (!isRecord(state) || state.version !== 1 || !Number.isInteger(state.uid)) return null;
    return {
      version: 1,
      capsuleId: layout.capsuleId,
      uid: Number(state.uid),
      process: readProcess(state.process),
      networkSlot: Number.isInteger(state.networkSlot) ? Number(state.networkSlot) : null,
      isDiskWhole: state.isDiskWhole === true,
    };
  } catch {
    return null;
  }
}

function readProcess(value: unknown): ProcessRef | null {
  if (!isRecord(value) || !Number.isInteger(value.pid) || !Number.isInteger(value.startTime)) return null;
  return { pid: Number(value.pid), startTime: Number(value.startTime) };
}
