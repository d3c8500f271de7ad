import { join } from 'node:path';
import type { DriverWish } from './config.ts';
import { isUsable } from './exists.ts';
import type { Accelerator } from './qemu-arguments.ts';
import { findQemuKit } from './qemu-kit.ts';

/** What runs capsules here. */
export interface DriverChoice {
  readonly driver: 'container' | 'gvisor' | 'microvm';
  /** Of micro-virtual machines; null for the others. */
  readonly accelerator: Accelerator | null;
  /** Why, for people. */
  readonly reason: string;
}

export interface ChoiceOptions {
  readonly wish: DriverWish;
  /** The host's own data directory. */
  readonly dataDir: string;
  /** Where QEMU and gVisor are kept; null for the data directory. */
  readonly kitsDir: string | null;
  /** Gets short lines while QEMU is fetched or a guest is booted. */
  readonly progress?: (line: string) => void;
}

/** The microvm driver's part of a host's data directory. */
export function microvmPlaces({ dataDir, kitsDir }: Pick<ChoiceOptions, 'dataDir' | 'kitsDir'>) {
  const microvmDir = join(dataDir, 'microvm');
  return { microvmDir, kitsDir: kitsDir ?? join(microvmDir, 'kits') };
}

/**
 * Chooses the driver; what containers do without is not loaded for them. `auto` takes micro-virtual machines where the processor's own
 * virtualization boots them, else containers; to find that out it fetches nothing, and boots a guest only where QEMU is already, once
 * after each start of the machine. Throws `runtime_unavailable` when micro-virtual machines are asked for and none boots.
 */
export async function chooseDriver(options: ChoiceOptions): Promise<DriverChoice> {
  const { wish, progress } = options;
  const container = (reason: string): DriverChoice => ({ driver: 'container', accelerator: null, reason });
  const { microvmDir, kitsDir } = microvmPlaces(options);
  const probe = { dataDir: microvmDir, kitsDir, ...(progress ? { progress } : {}) };
  if (wish === 'container') return container('asked for');
  if (wish === 'gvisor') return { driver: 'gvisor', accelerator: null, reason: 'asked for' };
  if (wish === 'microvm') {
    const { chooseAccelerator, describeChoice } = await import('./accelerator-probe.ts');
    const choice = await chooseAccelerator(probe);
    return { driver: 'microvm', accelerator: choice.accelerator, reason: `asked for; ${describeChoice(choice)}` };
  }
  if (!(await isUsable('/dev/kvm'))) return container('this machine offers no KVM');
  if ((await findQemuKit(kitsDir)) === null) {
    return container('whether KVM works was not tried; one run with --driver microvm tries it (fetches 76 MB)');
  }
  const { chooseHardware, describeChoice, describeFailures } = await import('./accelerator-probe.ts');
  const { accelerator, trials } = await chooseHardware(probe);
  if (accelerator === null) return container(describeFailures(trials).join('; '));
  return { driver: 'microvm', accelerator, reason: describeChoice({ accelerator, trials }) };
}
