import type { RunAssignment } from '@caisson/contracts/host-api';

/** A run of `true` that names nothing there is. */
export const testAssignment: RunAssignment = {
  leaseId: 'lease',
  fence: 1,
  capsuleId: 'capsule',
  work: { kind: 'shell', text: 'true' },
  base: { image: 'minimal' },
  shape: { cpus: 1, memoryBytes: 2 ** 27, diskBytes: 2 ** 30, pids: 64 },
  sourceDigest: null,
  env: {},
  timeoutMs: 60_000,
  graceMs: 1_000,
  maxOutputBytes: 2 ** 20,
  sealAs: null,
  egress: 'none',
};
