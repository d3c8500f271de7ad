import { openRunc, type RuncBaseline } from './baselines.ts';
import { type Capsules, type CapsulesOptions, openCapsules } from './capsules.ts';
import { openPodman, type PodmanOrWhy } from './podman.ts';

/** Ours and those we are compared with, all on one root filesystem. */
export type Machines = PodmanOrWhy & { readonly capsules: Capsules; readonly runc: RuncBaseline };

/** Each is removed by `opened`, whatever happens to the others. */
export async function openMachines(opened: AsyncDisposableStack, options: CapsulesOptions = {}): Promise<Machines> {
  const capsules = await openCapsules(options);
  opened.defer(() => capsules.end());
  const runc = await openRunc(capsules);
  opened.defer(() => runc.end());
  const podmanOrWhy = await openPodman(capsules);
  opened.defer(() => podmanOrWhy.podman?.end());
  return { ...podmanOrWhy, capsules, runc };
}
