import type { MachineSpec } from '../machine-driver.ts';

/** What `create` takes for a small capsule on one directory, without a network unless asked for. */
export function smallSpec(capsuleId: string, imageDir: string, changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    capsuleId,
    layers: [imageDir],
    shape: { cpus: 1, memoryBytes: 128 * 2 ** 20, diskBytes: 2 ** 30, pids: 64 },
    egress: 'none',
    readOnlyBinds: [],
    hostname: capsuleId,
    ...changes,
  };
}
