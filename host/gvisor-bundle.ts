import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MachineSpec } from './machine-driver.ts';
import {
  agentMountPath,
  type BundleOptions,
  bind,
  fileMounts,
  nameHost,
  ociConfig,
  sealed,
  tmpfs,
} from './oci-bundle.ts';
import { refusalProfile } from './oci-seccomp.ts';

interface GvisorBundleOptions extends BundleOptions {
  readonly spec: MachineSpec;
  /** Where the disk's /tmp is out here. */
  readonly tmpDir: string;
  /** What is shown of the host, from places that the capsule's root can reach. */
  readonly binds: readonly { readonly at: string; readonly to: string }[];
}

/** Writes what `runsc` reads: a capsule as any other has it, but that it is known from the start which one it is. */
export async function writeGvisorBundle(options: GvisorBundleOptions): Promise<void> {
  const { bundleDir } = options.layout;
  await mkdir(bundleDir);
  await Promise.all([
    nameHost(bundleDir, options.spec.hostname),
    writeFile(join(bundleDir, 'config.json'), JSON.stringify(gvisorConfig(options))),
  ]);
}

function gvisorConfig(options: GvisorBundleOptions): object {
  const { spec, rootDir } = options;
  const { process, linux, ...config } = ociConfig(options);
  const { pids, memoryBytes } = spec.shape;
  return {
    ...config,
    root: { path: rootDir, readonly: false },
    hostname: spec.hostname,
    process: {
      ...process,
      args: [agentMountPath, 'serve-pipes'],
      // gVisor has no control groups of its own that count; each user of a capsule has this many.
      rlimits: [...process.rlimits, { type: 'RLIMIT_NPROC', soft: pids, hard: pids }],
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: sealed },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...sealed, 'ro'] },
      tmpfs('/dev', ['nosuid', 'strictatime', 'mode=755']),
      tmpfs('/dev/shm', ['nosuid', 'nodev', 'mode=1777', `size=${Math.floor(memoryBytes / 2)}`]),
      { destination: '/tmp', type: 'bind', source: options.tmpDir, options: ['bind', 'nosuid', 'nodev'] },
      ...fileMounts(options),
      ...options.binds.map(({ at, to }) => bind(at, to, ['nosuid', 'nodev'])),
    ],
    linux: {
      ...linux,
      seccomp: refusalProfile(),
      namespaces: linux.namespaces.filter(({ type }) => type !== 'cgroup'),
    },
  };
}
