import { readFile, rename, writeFile } from 'node:fs/promises';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleLayout } from './container-layout.ts';

/** What must be known to clean a capsule up after a crash. Written before anything else of it exists. */
export interface CapsuleState {
  readonly version: 1;
  readonly capsuleId: string;
  /** Number of its network slot; null when it has no network. */
  readonly networkSlot: number | null;
}

export async function writeState(layout: CapsuleLayout, state: CapsuleState): Promise<void> {
  await writeFile(`${layout.stateFile}.new`, JSON.stringify(state));
  crashPoint('state.written');
  await rename(`${layout.stateFile}.new`, layout.stateFile);
  crashPoint('state.kept');
}

/** Null when there is none, or one cut off by a power loss: then nothing was created after it. */
export async function readState(layout: CapsuleLayout): Promise<CapsuleState | null> {
  try {
    const state: unknown = JSON.parse(await readFile(layout.stateFile, 'utf8'));
    return isState(state) ? state : null;
  } catch {
    return null;
  }
}

function isState(value: unknown): value is CapsuleState {
  if (typeof value !== 'object' || value === null) return false;
  if (!('version' in value) || value.version !== 1 || !('networkSlot' in value)) return false;
  return value.networkSlot === null || Number.isInteger(value.networkSlot);
}
