import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VesselLayout } from './container-layout.ts';
import { idMap } from './id-map.ts';
import { seccompProfile } from './oci-seccomp.ts';

/** Where the agent is inside; outside the usual paths so that no image has it. */
export const agentMountPath = '/.caisson/agent';

export interface BundleOptions {
  readonly layout: Pick<VesselLayout, 'bundleDir' | 'cgroupPath'>;
  readonly rootDir: string;
  readonly agentPath: string;
  readonly resolvConfPath: string;
  /** Name of a prepared network namespace; null for one of its own with nothing but loopback. */
  readonly networkNamespace: string | null;
  readonly cgroupMode: 'v1' | 'v2' | 'hybrid';
  /** This process's hard limit of open files, which a capsule cannot exceed. */
  readonly maxOpenFiles: number;
}

/** Writes everything the OCI runtime reads, into the vessel's run directory. */
export async function writeBundle(options: BundleOptions): Promise<void> {
  const { bundleDir } = options.layout;
  await mkdir(bundleDir);
  await Promise.all([
    nameHost(bundleDir, blankHostname),
    writeFile(join(bundleDir, 'config.json'), JSON.stringify(ociConfig(options))),
  ]);
}

/** Writes the hostname into the files that are shown inside. They are mounted already, so they are written in place. */
export async function nameHost(bundleDir: string, hostname: string): Promise<void> {
  await Promise.all([
    writeFile(join(bundleDir, 'hostname'), `${hostname}\n`),
    writeFile(join(bundleDir, 'hosts'), hostsFile(hostname)),
  ]);
}

function hostsFile(hostname: string): string {
  return `127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 ${hostname}\n`;
}

/**
 * What a container usually may, less device nodes, audit and raw sockets. All of them hold only within the capsule's user namespace.
 * `ping` carries a file capability for raw sockets, which the disk's `nosuid` ignores; it uses the sockets made for it.
 */
const capabilities = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_SETFCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
];

/** What tells of the whole machine or of its hardware and has no use inside. */
const maskedPaths = [
  'acpi',
  'asound',
  'interrupts',
  'kcore',
  'keys',
  'key-users',
  'latency_stats',
  'sched_debug',
  'scsi',
  'softirqs',
  'sysrq-trigger',
  'timer_list',
  'timer_stats',
].map((name) => `/proc/${name}`);

/** For mounts nothing of which is to be run. */
export const sealed = ['nosuid', 'noexec', 'nodev'];

const blankHostname = 'blank';
const idMappings = [{ containerID: 0, hostID: idMap.baseId, size: idMap.count }];

/**
 * The OCI runtime configuration of a vessel: all that is the same for every capsule. What differs is set when it becomes one: disk,
 * limits, hostname, size of /dev/shm, directories shown.
 */
export function ociConfig(options: BundleOptions) {
  const { layout, rootDir, maxOpenFiles } = options;
  return {
    ociVersion: '1.0.2',
    root: { path: rootDir, readonly: true },
    hostname: blankHostname,
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      cwd: '/',
      args: [agentMountPath, 'serve'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      // Setuid programs gain nothing. Root inside still changes users (`su`, apt's sandbox user), because it needs no setuid bit for
      // that; what stops working is a user who wants to become root (`sudo`).
      noNewPrivileges: true,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      rlimits: [
        { type: 'RLIMIT_NOFILE', soft: Math.min(maxOpenFiles, 65_536), hard: Math.min(maxOpenFiles, 1_048_576) },
      ],
    },
    mounts: mounts(options),
    linux: {
      uidMappings: idMappings,
      gidMappings: idMappings,
      namespaces: namespaces(options),
      cgroupsPath: `/${layout.cgroupPath}`,
      // Where systemd shares the host's mounts, what comes from one would otherwise follow it.
      rootfsPropagation: 'rprivate',
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      seccomp: seccompProfile(process.arch),
      maskedPaths,
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'],
    },
  };
}

function namespaces({ networkNamespace }: BundleOptions): readonly { readonly type: string }[] {
  const network = networkNamespace === null ? {} : { path: `/run/netns/${networkNamespace}` };
  const own = ['user', 'pid', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type }));
  return [...own, { type: 'network', ...network }];
}

function mounts(options: BundleOptions): readonly object[] {
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: sealed },
    tmpfs('/dev', ['nosuid', 'strictatime', 'mode=755', 'size=64k']),
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    tmpfs('/dev/shm', ['nosuid', 'nodev', 'mode=1777']),
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: sealed },
    // A network namespace that the user namespace does not own forbids mounting sysfs; programs want little more of it than the
    // number of processors.
    tmpfs('/sys', [...sealed, 'ro', 'mode=755', 'size=64k']),
    bind('/sys/devices/system/cpu', '/sys/devices/system/cpu', sealed),
    ...(options.cgroupMode === 'v2' ? [cgroupMount] : []),
    ...fileMounts(options),
  ];
}

/** Files of the host that are shown. Never in the writable layer: a sealed disk must not carry them to the next capsule. */
export function fileMounts({ layout, agentPath, resolvConfPath }: BundleOptions): readonly object[] {
  const ownFile = (name: string) => join(layout.bundleDir, name);
  return [
    bind(resolvConfPath, '/etc/resolv.conf', sealed),
    bind(ownFile('hosts'), '/etc/hosts', sealed),
    bind(ownFile('hostname'), '/etc/hostname', sealed),
    bind(agentPath, agentMountPath, ['nosuid', 'nodev']),
  ];
}

const cgroupMount = {
  destination: '/sys/fs/cgroup',
  type: 'cgroup',
  source: 'cgroup',
  options: ['ro', 'nosuid', 'noexec', 'nodev'],
};

export function tmpfs(destination: string, options: readonly string[]): object {
  return { destination, type: 'tmpfs', source: 'tmpfs', options };
}

export function bind(source: string, destination: string, options: readonly string[]): object {
  return { destination, type: 'bind', source, options: ['bind', 'ro', ...options] };
}
