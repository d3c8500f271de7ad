import { readFile, rename, writeFile } from 'node:fs/promises';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleLayout } from './container-layout.ts';

/**
 * What must be known to adopt a capsule after a crash, or to clean it up. Written when its vessel has become the capsule; until then the
 * vessel is nobody's, and the next start removes it.
 */
export interface CapsuleState {
  readonly version: 2;
  readonly capsuleId: string;
  readonly vesselId: string;
  /** Number of its network slot; null when it has no network. */
  readonly networkSlot: number | null;
}

export async function writeState(layout: CapsuleLayout, state: CapsuleState): Promise<void> {
  await writeFile(`${layout.stateFile}.new`, JSON.stringify(state));
  crashPoint('state.written');
  await rename(`${layout.stateFile}.new`, layout.stateFile);
  crashPoint('state.kept');
}

/** Null when there is none, or one cut off by a power loss. */
export async function readState(layout: CapsuleLayout): Promise<CapsuleState | null> {
  try {
    return asState(JSON.parse(await readFile(layout.stateFile, 'utf8')));
  } catch {
    return null;
  }
}

/** In version 1 the container had the capsule's own id. */
function asState(value: Readonly<Record<string, unknown>>): CapsuleState | null {
  const { version, capsuleId, networkSlot } = value;
  const vesselId = version === 1 ? capsuleId : value.vesselId;
  if (typeof capsuleId !== 'string' || typeof vesselId !== 'string') return null;
  if (networkSlot !== null && typeof networkSlot !== 'number') return null;
  return { version: 2, capsuleId, vesselId, networkSlot };
}
