import type { RunDefaults } from '../engine/assignment.ts';

/** What tests of the control plane give to every run. */
export const testDefaults: RunDefaults = {
  shape: { cpus: 1, memoryBytes: 2 ** 30, diskBytes: 2 ** 30, pids: 100 },
  image: 'minimal',
  jobTimeoutMs: 60_000,
  renderTimeoutMs: 60_000,
  graceMs: 1_000,
  maxOutputBytes: 2 ** 20,
  copyAfterMs: 3_000,
};
