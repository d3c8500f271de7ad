import type { CapsuleNetwork } from './capsule-network.ts';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import type { Installation } from './container-layout.ts';
import type { HeldMachine } from './microvm-machine.ts';
import type { ClonePool } from './microvm-pool.ts';
import type { TemplateStore } from './microvm-template.ts';
import type { Accelerator } from './qemu-arguments.ts';
import type { QemuKit } from './qemu-kit.ts';
import type { Strays } from './strays.ts';

/** Everything a microvm driver has once, for all its machines. */
export interface MicrovmContext {
  readonly installation: Installation;
  readonly hierarchy: CgroupHierarchy;
  readonly kit: QemuKit;
  readonly agentPath: string;
  readonly initramfsPath: string;
  readonly accelerator: Accelerator;
  readonly tscKhz: number;
  /** How long a machine may take from its first instruction to its agent's greeting. */
  readonly bootTimeoutMs: number;
  /** Network namespaces with a way out, for the QEMU of a machine that may have one. */
  readonly network: CapsuleNetwork;
  /** Where new machines come from; null: each boots by itself. */
  readonly templates: TemplateStore | null;
  /** Clones that are kept ready; null: none are. */
  readonly clones: ClonePool | null;
  /** Vessels of nobody that could not be removed. */
  readonly strays: Strays;
  /** Machines this process holds. */
  readonly live: Map<string, HeldMachine>;
}
