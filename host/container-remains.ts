import { basename } from 'node:path';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CapsuleNetwork } from './capsule-network.ts';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { type Installation, layoutOf, vesselLayoutOf } from './container-layout.ts';
import { type CapsuleState, readState, writeState } from './container-state.ts';
import { removeVessels } from './container-vessel.ts';
import { exists } from './exists.ts';
import { listCapsules, listVessels } from './installation-parts.ts';
import { removeTree } from './layer-tree.ts';
import type { Remains } from './machine-driver.ts';
import type { RunBriefly } from './resident-programs.ts';
import type { Strays } from './strays.ts';

export interface RemainsContext {
  readonly installation: Installation;
  readonly hierarchy: CgroupHierarchy;
  readonly blankRootDir: string;
  readonly run: RunBriefly;
  /** Vessels of nobody that could not be removed. */
  readonly strays: Strays;
}

/**
 * A capsule this process does not hold, whatever there is of it. Its network slot is given back only when nothing on disk claims it
 * any more: another capsule may get it at once, and whoever comes for these remains again must not find it there.
 */
export function remainsOf(context: RemainsContext & { readonly network: CapsuleNetwork }, capsuleId: string): Remains {
  const { installation, network, run } = context;
  const layout = layoutOf(installation, capsuleId);
  const end = async (state: CapsuleState | null, unclaim: () => Promise<void>) => {
    if (state !== null) await removeVessels(context, [vesselLayoutOf(installation, state.vesselId)]);
    await unclaim();
    crashPoint('remains.unclaimed');
    const slot = state?.networkSlot ?? null;
    if (slot !== null) await network.pool.discard(slot);
  };
  return {
    async stop() {
      const state = await readState(layout);
      await end(state, async () => {
        if (state !== null) await writeState(layout, { ...state, networkSlot: null });
      });
      return { upperDir: layout.upperDir };
    },
    async destroy() {
      if (await exists(layout.stateDir)) await end(await readState(layout), () => removeTree(layout.stateDir, run));
    },
  };
}

/** What is known of every capsule that was activated. */
export async function readStates(installation: Installation): Promise<readonly CapsuleState[]> {
  const capsuleIds = await listCapsules(installation);
  const states = await Promise.all(capsuleIds.map((id) => readState(layoutOf(installation, id))));
  return states.filter((state) => state !== null);
}

/** Removes every vessel that is not a capsule's: blank ones of an earlier process, and those it was starting or activating. */
export async function removeStrayVessels(context: RemainsContext, states: readonly CapsuleState[]): Promise<void> {
  const { installation, blankRootDir } = context;
  const claimed = new Set([...states.map(({ vesselId }) => vesselId), basename(blankRootDir)]);
  const strays = (await listVessels(context)).filter((id) => !claimed.has(id));
  const layouts = strays.map((id) => vesselLayoutOf(installation, id));
  // All at once, as long as none of them fails: for each call every process of this machine is looked at.
  await removeVessels(context, layouts).catch(() => strays.forEach(context.strays.add));
  await context.strays.retry();
}
